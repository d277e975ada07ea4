"""A shop's two tables in a folder, and what of them is read: for tests of sources."""

from __future__ import annotations

from pathlib import Path

from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding

LOG = "user_id,item_id\nu,0\nu,1\nv,2\n"
ITEMS = "item_id,title\n0,größe\n1,名前\n2,x\n"


def shop(folder: Path, log: str | bytes = LOG, items: str | bytes = ITEMS, *, ending: str = "csv") -> Path:
    for name, content in (("interactions.csv", log), (f"items.{ending}", items)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found(data: Dataset) -> dict[str, Finding]:
    return {finding.kind: finding for finding in data.findings}


def titles(data: Dataset) -> list[str]:
    return [item.fields["title"] for item in data.catalog]
