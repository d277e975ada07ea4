"""What a fetched file must begin with: a server that answers with a page instead of an image is found out."""

from __future__ import annotations

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["image", "gzip", "parquet", "lines"]
HEAD = 16  # bytes that tell


def ending_of(kind: Kind, head: bytes) -> str | None:
    """The ending that a file of a kind gets (images; "" else), or None where the first bytes are of another kind."""
    if kind == "image":
        return _image(head)
    begins = {"gzip": head[:2] == b"\x1f\x8b", "parquet": head[:4] == b"PAR1", "lines": head.lstrip()[:1] == b"{"}
    return "" if begins[kind] else None


def kind_of(name: str) -> Kind:
    """The kind of a data file, by its name."""
    return "gzip" if name.endswith(".gz") else "parquet" if name.endswith(".parquet") else "lines"


def describe(head: bytes) -> str:
    """What the first bytes look like, for a message."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "a web page"
    return f"bytes that begin with {head[:8].hex(' ')}" if head else "nothing"


def _image(head: bytes) -> str | None:
    if head[:3] == b"\xff\xd8\xff":
        return ".jpg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return ".png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return ".gif"
    return ".webp" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None
