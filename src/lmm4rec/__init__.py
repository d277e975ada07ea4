"""Multi-modal recommendation with large multi-modal encoders.

dataset = lmm4rec.load_dataset("table", path="my_shop")
split = lmm4rec.split(dataset, "random", valid=0.1, test=0.1, seed=0)
encoder = lmm4rec.load_encoder("clip", checkpoint="openai/clip-vit-base-patch16")
features = lmm4rec.encode(encoder, dataset.catalog)
result = lmm4rec.run("conf/vbpr.conf", {"train.epochs": 5}, out="runs/vbpr")
bundle = lmm4rec.Bundle.load("runs/vbpr")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmm4rec.api import (
        Bundle,
        Catalog,
        Dataset,
        Inputs,
        NewItem,
        Split,
        encode,
        load_dataset,
        load_encoder,
        prepare,
        run,
        split,
    )

__all__ = [
    "Bundle", "Catalog", "Dataset", "Inputs", "NewItem", "Split", "encode", "load_dataset", "load_encoder", "prepare",
    "run", "split",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The public face, imported when it is first used: `import lmm4rec.core.types` alone stays light."""
    if name in __all__:
        return getattr(importlib.import_module("lmm4rec.api"), name)
    raise AttributeError(f"module 'lmm4rec' has no attribute '{name}'")
