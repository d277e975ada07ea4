"""First bytes by which kinds of files are known, so that an error page is not taken for an image or a data file."""

from __future__ import annotations

import re
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["image", "gzip", "parquet", "lines"]

SIGNATURE_BYTES = 16  # bytes that decide
_SIGNATURES: dict[Kind, dict[str, bytes]] = {  # of each kind the patterns of first bytes, by the file name's ending
    "image": {
        ".jpg": rb"\xff\xd8\xff", ".png": rb"\x89PNG\r\n\x1a\n", ".gif": rb"GIF8[79]a", ".webp": rb"RIFF.{4}WEBP",
        ".bmp": rb"BM.{4}\0{4}", ".tif": rb"II\*\0|MM\0\*", ".avif": rb".{4}ftypavi[fs]",
        ".heic": rb".{4}ftyp(hei|hev|mif1)",
    },
    "gzip": {"": rb"\x1f\x8b"},
    "parquet": {"": rb"PAR1"},
    "lines": {"": rb"\s*\{"},
}  # fmt: skip


IMAGE_ENDINGS = (".jpg", ".png", ".gif", ".webp", ".jpeg", ".bmp", ".tif", ".avif", ".heic")
"""Endings of image files; of several files of one stem the first kind is used."""


def ending_of(kind: Kind, head: bytes) -> str | None:
    """The ending of the file's name (images; else ""), or None where the first bytes are not of the kind."""
    found = _SIGNATURES[kind].items()
    return next((ending for ending, pattern in found if re.match(pattern, head[:SIGNATURE_BYTES], re.DOTALL)), None)


def kind_of(name: str) -> Kind:
    """The kind of a data file, by its name."""
    return "gzip" if name.endswith(".gz") else "parquet" if name.endswith(".parquet") else "lines"


def describe(head: bytes) -> str:
    """The kind of content that first bytes suggest, for a message."""
    if b"<svg" in head.lower():
        return "an SVG drawing"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "a web page"
    return f"bytes that begin with {head[:8].hex(' ')}" if head else "nothing"
