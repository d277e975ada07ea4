"""Extraction beside the bare model: items/s of both on the same images and texts, in the same run.

Run `python benchmarks/encoding.py [ENCODER ...]`. Encoders have base size and random weights; images are JPEG files
of 500 x 375 pixels. "Bare" is the model's forward pass over the very tensors that extraction makes, prepared and in
memory before the clock starts. "Whole" is `extract` into an empty store: images are read, digested, decoded and
resized, texts tokenized, weights digested, vectors checked and stored. Target: whole is at least 90% of bare.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from _results import HERE, write
from lmm4rec.api import load_encoder
from lmm4rec.core.device import choose_device
from lmm4rec.core.files import read_json
from lmm4rec.core.types import Inputs
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.images import ImageFile
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoding.runner import evaluating
from lmm4rec.features.extract import extract
from lmm4rec.features.store import FeatureStore
from lmm4rec.nn.transformers.checkpoints import draw_model, save_folder

TARGET = 0.9
WORDS = ("red", "blue", "green", "steel", "oak", "wool", "mug", "lamp", "chair", "coat", "small", "light", "for", "and")
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bfloat16 of the vendor's data sheets
Pass = tuple[Encoder, Inputs]
Precision = Literal["float32", "bfloat16"]


def clip(folder: Path, texts: Sequence[str]) -> Encoder:
    """CLIP ViT-B/16 (149.6 million weights), its vocabulary learned from the texts."""
    import transformers

    Clip.write_tiny(folder, texts, text_len=77, image_size=224)  # its tokenizer and preprocessing stay
    special = {key: read_json(folder / "config.json")["text_config"][key] for key in ("bos_token_id", "eos_token_id")}
    config = transformers.CLIPConfig(text_config=special, vision_config={"patch_size": 16}, projection_dim=512)
    transformers.CLIPModel(config).save_pretrained(folder)
    return load_encoder("clip", checkpoint=str(folder))


def multiway(name: str, size: str) -> Callable[[Path, Sequence[str]], Encoder]:
    """BEiT-3 or VLMo of one of its published sizes."""

    def make(folder: Path, texts: Sequence[str]) -> Encoder:
        family = f"lmm4rec.nn.transformers.{name}"
        network, layout = (importlib.import_module(f"{family}.{part}") for part in ("network", "checkpoint"))
        component = getattr(importlib.import_module(f"lmm4rec.encoders.{name}"), name.capitalize())
        component.write_tiny(folder, texts)  # its vocabulary stays
        shape = network.SIZES[size]
        model = draw_model(lambda: getattr(network, f"{name.capitalize()}Model")(shape), 0)
        save_folder(folder, model, layout.RENAMES, {"encoder": name, "heads": shape.heads}, {})
        return load_encoder(name, checkpoint=str(folder))

    return make


ENCODERS: dict[str, Callable[[Path, Sequence[str]], Encoder]] = {
    "clip": clip,
    "beit3": multiway("beit3", "base"),
    "vlmo": multiway("vlmo", "base"),
    "vlmo_base_plus": multiway("vlmo", "base_plus"),
}


def draw(folder: Path, items: int, *, distinct: int = 0) -> Catalog:
    """A catalog of images in files and of texts of 5 to 50 words.

    All images are drawn, or the first `distinct` ones: the other files hold the image of an earlier one and, behind it,
    bytes of their own, which decoders skip but digests do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, images, texts = np.random.default_rng(0), [], []
    for row in range(items):
        images.append(ImageFile(folder / f"{row}.jpg", folder))
        if distinct and row >= distinct:
            images[-1].path.write_bytes(images[row % distinct].path.read_bytes() + str(row).encode())
        else:
            coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
            fine = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)) + rng.normal(0, 6, (375, 500, 3))
            Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(images[-1].path, quality=85)
        texts.append(" ".join(rng.choice(WORDS, rng.integers(5, 50))) + f" {row}")
    fields = pl.DataFrame({"title": texts, "description": [""] * items})
    return Catalog(Vocabulary(str(row) for row in range(items)), fields, tuple(images), np.arange(items), items)


def whole(encoder: Encoder, catalog: Catalog, options: dict[str, Any]) -> tuple[float, list[Pass]]:
    """Seconds of an extraction into an empty store, and the passes through the model that it made."""
    passes: list[Pass] = []
    hook = encoder.register_forward_pre_hook(lambda part, given: passes.append((part, given[0])))
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        extract(encoder, catalog, store=FeatureStore(Path(name)), **options)
        seconds = time.perf_counter() - began
    hook.remove()
    return seconds, passes


def bare(encoder: Encoder, passes: Sequence[Pass], device: torch.device, precision: Precision) -> float:
    """Seconds of the same passes and nothing else."""
    with evaluating(encoder, device, precision):
        began = time.perf_counter()
        for part, inputs in passes:
            part(inputs)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began


def measure(encoder: Encoder, catalog: Catalog, precision: Precision, arguments: argparse.Namespace) -> dict[str, Any]:
    """Medians of items/s over rounds in which bare and whole take turns."""
    device = choose_device(arguments.device)
    options = {"batch_size": arguments.batch, "precision": precision, "device": str(device)}
    if arguments.workers >= 0:
        options["workers"] = arguments.workers
    _, passes = whole(encoder, catalog, options)  # warms up, too
    rates: dict[str, list[float]] = {"bare": [], "whole": []}
    for _ in range(arguments.rounds):
        rates["bare"].append(len(catalog) / bare(encoder, passes, device, precision))
        rates["whole"].append(len(catalog) / whole(encoder, catalog, options)[0])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = medians["whole"] / medians["bare"]
    with FlopCounterMode(display=False) as counter:
        bare(encoder, passes, device, precision)
    tflops = counter.get_total_flops() / len(catalog) * medians["bare"] / 1e12
    result = {f"{name}_items_per_s": round(value, 2) for name, value in medians.items()}
    result |= {"items": len(catalog), "batch": arguments.batch, "rounds": arguments.rounds}
    result |= {"ratio": round(ratio, 3), "target_met": ratio >= TARGET, "bare_tflops": round(tflops, 3)}
    peak = next((peak for name, peak in PEAK_TFLOPS.items() if name in _accelerator(device)), 0.0)
    return result | ({"share_of_bfloat16_peak": round(tflops / peak, 3)} if peak else {})


def _accelerator(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoders", nargs="*", default=["clip", "beit3", "vlmo"], help=f"of {', '.join(ENCODERS)}")
    parser.add_argument("--items", type=int, default=0, help="default: 128 on a CPU, 4096 on a GPU")
    parser.add_argument("--batch", type=int, default=0, help="default: 32 on a CPU, 256 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=-1, help="default: as extraction chooses")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    on_gpu = choose_device(arguments.device).type == "cuda"
    arguments.items = arguments.items or (4096 if on_gpu else 128)
    arguments.batch = arguments.batch or (256 if on_gpu else 32)
    path = HERE / "results" / "encoding.json"
    values: dict[str, Any] = read_json(path)["values"] if path.exists() else {}  # rows not measured now stay
    values["target"] = TARGET
    with tempfile.TemporaryDirectory() as name:
        catalog = draw(Path(name), arguments.items)
        texts = catalog.fields["title"].to_list()
        for encoder_name in arguments.encoders:
            folder = Path(name) / encoder_name
            try:
                encoder = ENCODERS[encoder_name](folder, texts)
            except ModuleNotFoundError as error:
                values[encoder_name] = {"skipped": str(error)}
                continue
            weights = sum(weight.numel() for weight in encoder.parameters())
            values[encoder_name] = values.get(encoder_name, {}) | {"parameters": weights}
            for precision in arguments.precisions:
                values[encoder_name][precision] = measure(encoder, catalog, precision, arguments)
    write("encoding", values)


if __name__ == "__main__":
    main()
