"""Buckets as Google's and Azure's stores serve them, on this machine: written and listed by other clients than ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

# the account that every Azurite has; public (https://learn.microsoft.com/azure/storage/common/storage-use-azurite)
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Store:
    """One empty bucket, and the variables that give access to it."""

    address: str
    environment: dict[str, str]
    put: Callable[[str, bytes], object]
    keys: Callable[[], set[str]]


@contextmanager
def google(folder: Path) -> Iterator[Store]:
    """Google's XML interface is that of S3 but for the credentials, so that moto answers it."""
    moto, serving = pytest.importorskip("moto.server"), pytest.importorskip("werkzeug.serving")
    boto3 = pytest.importorskip("boto3")
    answer = moto.create_backend_app("s3")
    signed = "AWS4-HMAC-SHA256 Credential=ann/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"

    def app(environ: dict[str, Any], start: Any) -> Any:
        given = environ.get("HTTP_AUTHORIZATION", "")
        assert not given or given.startswith(("Bearer", "AWS4"))  # Google's clients send a token
        return answer({**environ, "HTTP_AUTHORIZATION": signed}, start)

    server = serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=_quiet(serving))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    file = folder / "service-account.json"
    empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    file.write_text(json.dumps({"disable_oauth": True, **empty}))
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="ann", aws_secret_access_key="secret"
    )
    bucket = f"mugs{uuid4().hex}"  # moto forgets none; a hyphen, which Google's clients escape, it does not read
    client.create_bucket(Bucket=bucket)
    yield Store(
        f"gs://{bucket}",
        {"GOOGLE_SERVICE_ACCOUNT": str(file), "GOOGLE_BASE_URL": url},
        lambda key, body: client.put_object(Bucket=bucket, Key=key, Body=body),
        lambda: {one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", ())},
    )
    server.shutdown()
    server.server_close()


def _quiet(serving: Any) -> type:
    return type("Quiet", (serving.WSGIRequestHandler,), {"log": lambda *_: None})


@contextmanager
def azure(folder: Path) -> Iterator[Store]:
    """Azurite, Microsoft's emulator (`npm install -g azurite`), and Microsoft's client (`azure-storage-blob`)."""
    blob, program = pytest.importorskip("azure.storage.blob"), shutil.which("azurite-blob")
    if program is None:
        pytest.skip("no azurite-blob here (npm install -g azurite)")
    options = ["--disableTelemetry", "--skipApiVersionCheck", "--blobHost=127.0.0.1", "--blobPort=0"]
    command = [program, *options, f"--location={folder}"]
    said = folder / "said.txt"
    with said.open("w") as out:
        server = subprocess.Popen(command, stdout=out, cwd=folder)
    try:
        url = f"http://127.0.0.1:{_port(said)}/{ACCOUNT}"
        container = blob.ContainerClient(url, "mugs", credential=KEY)
        container.create_container()
        access = {"ACCOUNT_NAME": ACCOUNT, "ACCOUNT_KEY": KEY, "ENDPOINT": url}
        yield Store(
            "az://mugs",
            {f"AZURE_STORAGE_{name}": value for name, value in access.items()},
            lambda key, body: container.upload_blob(key, body, overwrite=True),
            lambda: {one.name for one in container.list_blobs()},
        )
    finally:
        server.kill()
        server.wait()


def _port(said: Path) -> str:
    """The port that Azurite has taken, once it listens."""
    deadline = time.monotonic() + 60
    while not (found := re.search(r"listens on \S+:(\d+)", said.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found, said.read_text()
    return found[1]


STORES = {"gs": google, "az": azure}
