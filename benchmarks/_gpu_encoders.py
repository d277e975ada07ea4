"""Sections of `gpu.py` on encoders of full size with random weights: extraction, end-to-end training, decoding."""

from __future__ import annotations

import argparse
import copy
import shutil
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

import encoding
from _adapter_step import make_encoder
from _adapter_step import measure as measure_training
from _gpu_device import Options, Section, Values, attempt, seconds_each
from lmm4rec.api import load_encoder
from lmm4rec.core.device import cores
from lmm4rec.core.types import Inputs
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoding.batches import ResolvedOptions, cut, prepared_batches
from lmm4rec.encoding.runner import evaluating
from lmm4rec.encoding.sizing import input_bytes, worker_count

ENCODERS = ("clip", "vlmo_base_plus", "beit3")
EXTRACTION_TARGET, TRAINING_TARGET = 0.5, 0.35
BATCH = 256


def extraction(options: Options) -> Section:
    """Items/s of the model alone and of a whole extraction, and of one batch by modality and precision."""
    # the bare model is measured on inputs that all lie on the device, 0.6 MB an item, twice for a while
    items, distinct = (24, 8) if options.tiny else (min(8192, options.memory_mb // 4), 256)
    catalog = encoding.draw(options.folder / "images", items, distinct=distinct)
    for name in ENCODERS:
        yield {name: attempt(partial(_extraction_of, name, catalog, options))}


def _extraction_of(name: str, catalog: Catalog, options: Options) -> Values:
    encoder = make_encoder(name, catalog, options.folder / name, tiny=options.tiny)
    arguments = argparse.Namespace(
        device=str(options.device), batch=8 if options.tiny else BATCH, rounds=1 if options.tiny else 2, workers=-1
    )
    result = encoding.measure(encoder, catalog, "bfloat16", arguments)
    result |= options.share_of_peak(result["bare_tflops"], EXTRACTION_TARGET)
    if "share_of_peak" in result:
        result["whole_share_of_peak"] = result["share_of_peak"] * result["ratio"]
    result["parameters"] = sum(weight.numel() for weight in encoder.parameters())
    items = catalog[: arguments.batch]
    parts = {modality: encoder.with_modalities([modality]) for modality in encoder.dims}
    return result | {"one_batch": {m: _one_batch(part, part.prepare(items), options) for m, part in parts.items()}}


def _one_batch(part: Encoder, inputs: Inputs, options: Options) -> Values:
    """Items/s as extraction computes, weights of float32 under autocast, and with weights of bfloat16."""
    device, found = options.device, Values()
    inputs = inputs.to(device)
    rows = next(len(values) for values in inputs if values is not None)
    half = copy.deepcopy(part).bfloat16()
    pixels = None if inputs.pixels is None else inputs.pixels.bfloat16()
    kinds: dict[str, tuple[Encoder, Inputs, encoding.Precision]] = {
        "autocast": (part, inputs, "bfloat16"),
        "bfloat16_weights": (half, inputs._replace(pixels=pixels), "float32"),
    }
    for kind, (module, batch, precision) in kinds.items():
        with evaluating(module, device, precision):
            with FlopCounterMode(display=False) as counter:
                module(batch)
            seconds = seconds_each(partial(module, batch), device, at_least_s=0.05 if options.tiny else 1.0)
        tflops = counter.get_total_flops() / seconds / 1e12
        shares = options.share_of_peak(tflops, EXTRACTION_TARGET)
        found[kind] = {"items_per_s": rows / seconds, "tflops": tflops, **shares}
    return found


def training(options: Options) -> Section:
    """Milliseconds of a step of VBPR with the whole encoder in training, and its share of the peak."""
    settings: dict[str, Any] = {
        "device": str(options.device), "precision": "auto", "count_operations": True, "tiny": options.tiny,
        "items": 1024, "distinct": 256, "users": 4096, "each": 8, "batch_size": 1024, "batches": 8, "max_items": 512,
    }  # fmt: skip
    if options.tiny:
        settings |= {"items": 16, "distinct": 8, "users": 32, "each": 4, "batch_size": 32, "batches": 2, "max_items": 8}
    else:  # activations of all items of a pass are kept, so that nothing is computed twice
        settings["memory_mb"] = options.memory_mb * 6 // 10
    for name in ENCODERS:
        yield {name: attempt(partial(_training_of, name, settings, options))}


def _training_of(name: str, settings: dict[str, Any], options: Options) -> Values:
    result = measure_training(name, "none", settings, options.folder / "training")
    shares = options.share_of_peak(result["tflops"], TRAINING_TARGET)
    return {"milliseconds_a_step": 1000 * result["seconds_a_batch"], **result, **shares}


def decoding(options: Options) -> Section:
    """Images/s that are decoded and resized by processes as in extraction, and the rate at which encoders take them."""
    items, side = (32, 64) if options.tiny else (16384, 224)
    catalog = encoding.draw(options.folder / "images", items, distinct=8 if options.tiny else 256)
    Clip.write_tiny(options.folder / "clip", catalog.fields["title"].to_list(), image_size=side)
    encoder = load_encoder("clip", checkpoint=str(options.folder / "clip"), outputs="image")
    encoder.prepare(catalog[:1])  # the first time is slower
    began = time.perf_counter()
    inputs = encoder.prepare(catalog[:BATCH])
    one = (time.perf_counter() - began) / min(BATCH, items)
    most = worker_count(items * one, BATCH * input_bytes(inputs) // min(BATCH, items))
    facts = {"cores": cores(), "shared_memory_mb": shutil.disk_usage("/dev/shm").total // 2**20, "workers": most}
    yield facts | {"milliseconds_an_image": 1000 * one}
    rates: dict[int, float] = {}
    for workers in (0, 2) if options.tiny else sorted({0, 1, 4, 8, most}):
        rates[workers] = _decoded_per_s(encoder, catalog, workers, options)
        yield {"images_per_s_by_workers": dict(rates)}
    yield {"images_per_s": max(rates.values()), "limits": dict(_limits(max(rates.values()), one, options))}


def _decoded_per_s(encoder: Encoder, catalog: Catalog, workers: int, options: Options) -> float:
    """The rate at which prepared batches arrive, once each worker has delivered one."""
    size = 4 if options.tiny else BATCH
    items = catalog[: size * 4 * max(1, workers)]
    resolved = ResolvedOptions(options.device, "bfloat16", size, workers, 512)
    moments = [time.perf_counter()]
    for _ in prepared_batches(encoder, items, cut(range(len(items)), size), resolved):
        moments.append(time.perf_counter())
    moments = moments[max(1, workers) :]
    return size * (len(moments) - 1) / (moments[-1] - moments[0])


def _limits(decoded: float, one: float, options: Options) -> Iterator[tuple[str, Values]]:
    """Of each encoder: the share of its images/s that decoding lets it have, and the cores that it would need."""
    for name, values in options.known.get("extraction", {}).items():
        if isinstance(values, dict) and "one_batch" in values:
            wanted = values["one_batch"]["image"]["autocast"]["items_per_s"]
            share, needed = min(1.0, decoded / wanted), wanted * one
            yield name, {"encoder_images_per_s": wanted, "share_left_by_decoding": share, "cores_needed": needed}
