"""The main job on the built-in world: eight models, one table, one page of images."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm4rec.experiments.compare import ComparedRun, compare
from lmm4rec.experiments.result import Result

_TRAIN = {"epochs": 60, "batch_size": 1024, "patience": 8, "learning_rate": 3e-3, "evaluate_every": 2}
_CLIP = {"name": "clip", "checkpoint": "toyshop"}


def _entry(label: str, recommender: Mapping[str, Any], encoder: Mapping[str, Any] | None = None) -> ComparedRun:
    conf = {"title": label, "data": {"name": "toyshop"}, "recommender": recommender, "train": _TRAIN}
    return ComparedRun(label, conf | ({"encoder": encoder} if encoder else {}), {})


def demo(out: Path) -> tuple[list[ComparedRun], list[Result]]:
    """Run the demo into `out`; it goes on where it was interrupted."""
    entries = [
        _entry("Popular", {"name": "popular"}),
        _entry("ItemKNN", {"name": "itemknn"}),
        _entry("RP3beta", {"name": "rp3beta"}),
        _entry("EASE", {"name": "ease"}),
        _entry("LightGCN", {"name": "lightgcn"}),
        _entry("CEASE, CLIP", {"name": "cease"}, _CLIP),
        _entry("VBPR, CLIP", {"name": "vbpr", "dim": 32, "content_dim": 32}, _CLIP),
        _entry("LATTICE, CLIP", {"name": "lattice"}, _CLIP),
    ]
    return entries, compare(entries, out, title="The toy shop", next_steps=next_steps(out))


def next_steps(out: Path) -> list[str]:
    """The commands to try after the demo; the last one opens the page on what was just trained."""
    return [
        f"{program()} recommend {out / 'cease-clip'} u001 u002",
        f"{program('python')} main.py LightGCN -s recommender.layers=3",
        f"{program()} example my_shop",
        f"{program()} serve {out / 'cease-clip'} {out / 'lattice-clip'}",
    ]


def program(name: str = "lmm4rec") -> str:
    """The path of a command of this environment, as typed here: its bare name where the shell would find it."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(beside) or not beside.exists():
        return name
    here = Path.cwd()
    return str(beside.relative_to(here)) if beside.is_relative_to(here) else str(beside)
