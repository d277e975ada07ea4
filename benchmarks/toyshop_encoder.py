"""Pre-trains the small CLIP that comes with the toy shop, and measures what its vectors tell of the shop's items.

python benchmarks/toyshop_encoder.py             # measures the CLIP that comes with lmm4rec beside color and words
python benchmarks/toyshop_encoder.py --train     # pre-trains it anew first, on the second catalog (half an hour)
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from _results import write
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.types import Features
from lmm4rec.data.sources.toyshop import load, pretraining_catalog
from lmm4rec.encoders.base import DEFAULT_TEXT, Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.words import Words
from lmm4rec.experiments.build.encoders import SHIPPED, toyshop_encoder
from lmm4rec.features.extract import encode
from lmm4rec.nn.text import render
from lmm4rec.toyshop.attributes import VALUES
from lmm4rec.toyshop.world import make_world
from lmm4rec.training.finetuning import fit_pairs

ITEMS, SIZES = 8000, {"patch": 8, "layers": 3}
TRAINING: dict[str, Any] = {"epochs": 14, "batch_size": 128, "learning_rate": 1e-3, "weight_decay": 0.05, "patience": 0}
_RIDGE, _TRAINED = 1e-2, 0.7  # regularization of the linear probe, share of the items that it is fitted on


def train(folder: Path) -> None:
    """Pre-train the encoder into a folder, its weights as float16, beside them its held-out retrieval."""
    catalog, began = pretraining_catalog(seed=1, items=ITEMS), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    Clip.write_tiny(folder, [render(DEFAULT_TEXT, item.fields) for item in catalog], seed=0, **SIZES)
    encoder = Clip(checkpoint=str(folder))
    tuned = fit_pairs(encoder, catalog[:], None, precision="float32", device="cpu", **TRAINING)
    encoder.save_pretrained(folder)
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save_file(halved, weights, {"format": "pt"})
    write_json(folder / "training.json", {**tuned.after, "seconds": round(time.monotonic() - began, 1)})


def probe(features: Features) -> dict[str, dict[str, float]]:
    """The accuracy of a linear map from each modality's vectors to each attribute, on items held out from it."""
    attributes = make_world().attributes
    found: dict[str, dict[str, float]] = {}
    for modality, rows in features.items():
        x = torch.nn.functional.normalize(rows.clone(), dim=1)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        fitted, held_out = order[: round(_TRAINED * len(x))], order[round(_TRAINED * len(x)) :]
        x = x - x[fitted].mean(0)
        found[modality] = {}
        for name, values in VALUES.items():
            truth = torch.from_numpy(attributes[name])
            classes = torch.nn.functional.one_hot(truth, len(values)).float()
            gram = x[fitted].T @ x[fitted] + _RIDGE * torch.eye(x.shape[1])
            weights = torch.linalg.solve(gram, x[fitted].T @ (classes[fitted] - classes[fitted].mean(0)))
            guessed = (x[held_out] @ weights + classes[fitted].mean(0)).argmax(1)
            found[modality][name] = round(float((guessed == truth[held_out]).float().mean()), 3)
    return found


def main() -> None:
    """Measure, after pre-training where asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="pre-train the encoder anew")
    folder = SHIPPED / "clip"
    if parser.parse_args().train:
        train(folder)
    encoders: dict[str, Encoder] = {"color": Color(), "words": Words()}
    encoders["clip"] = Clip(checkpoint=str(toyshop_encoder(Clip)))
    catalog = load().catalog
    size = sum(path.stat().st_size for path in folder.iterdir())
    accuracy = {name: probe(encode(encoder, catalog)) for name, encoder in encoders.items()}
    write("toyshop_encoder", {"training": read_json(folder / "training.json"), "bytes": size, "accuracy": accuracy})


if __name__ == "__main__":
    main()
