"""Buckets of moto's S3 server on this machine, which the fixture `bucket` starts: written and listed by boto3."""

from __future__ import annotations

import io
from typing import Any

import polars as pl


def client() -> Any:
    import boto3

    return boto3.client("s3", region_name="us-east-1")


def put(bucket: str, key: str, body: bytes | str | pl.DataFrame) -> None:
    if isinstance(body, pl.DataFrame):
        body.write_parquet(buffer := io.BytesIO())
        body = buffer.getvalue()
    client().put_object(Bucket=bucket, Key=key, Body=body)


def objects(bucket: str, prefix: str = "") -> dict[str, bytes]:
    """The objects of a bucket by key."""
    found = client().list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    return {one["Key"]: client().get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}
