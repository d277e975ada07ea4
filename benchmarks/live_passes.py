"""Seconds of a pass through an encoder in training: in the order of the texts' lengths, and in any order.

    python benchmarks/live_passes.py --data FOLDER [--items 128] [--rounds 3]    # a folder as `table` reads it

Forward and backward, one thread, seconds of the processor, each variant once a round, medians. "any order" pads each
pass to the longest text that happens to be in it; "library's activation" has quick_gelu as transformers computes it;
"all again" computes every row a second time in the backward pass where not all fit the memory.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from _results import write
from lmm4rec.core.types import Item
from lmm4rec.data.filters import prepare
from lmm4rec.data.sources import table
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoding.runner import EncoderRunner, _cut
from lmm4rec.features.item_vectors import EncodedItems
from lmm4rec.features.live import Live
from lmm4rec.nn.transformers.activations import QuickGelu

TEXT = "{title}. {genres}. {tagline}. {description}"


def all_again(source: Live) -> AbstractContextManager[object]:
    def chunks(runner: EncoderRunner, rows: int) -> tuple[list[slice], list[slice]]:
        size = min(runner.pass_rows or rows, runner.chunk)
        return (_cut(0, rows, size), []) if rows > runner.chunk else ([], _cut(0, rows, size))

    return patch.object(EncoderRunner, "_chunks", chunks)


VARIANTS: dict[str, Callable[[Live], AbstractContextManager[object]]] = {
    "as it is": lambda source: nullcontext(),
    "any order": lambda source: patch.object(source.vectors, "text_lengths", None),
    "library's activation": lambda source: patch.object(QuickGelu, "forward", QuickGELUActivation.forward),
    "all again": all_again,
}


def measured(encoder: Encoder, items: list[Item], count: int, rounds: int) -> dict[str, float]:
    """The median seconds of each variant for as many items."""
    vectors = EncodedItems(encoder, items)
    start = {modality: torch.zeros(len(items), dim) for modality, dim in vectors.dims.items()}
    source = Live(vectors, start, precision="float32", refresh_every=0).train()
    chosen = torch.randperm(len(items), generator=torch.Generator().manual_seed(0))[:count]
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    step(source, chosen)  # the first measures the memory
    for _ in range(rounds):
        for name, changed in VARIANTS.items():
            with changed(source):
                began = time.process_time()
                step(source, chosen)
                seconds[name].append(time.process_time() - began)
    tokens = vectors.text_lengths
    means = {} if tokens is None else {"mean_tokens": float(tokens.float().mean()), "most_tokens": int(tokens.max())}
    return {name: statistics.median(values) for name, values in seconds.items()} | means


def step(source: Live, items: torch.Tensor) -> None:
    source.begin_epoch(1)
    vectors = source(items, torch.Generator().manual_seed(1))
    torch.autograd.backward([one.square().sum() for one in vectors.values()])
    nn.Module.zero_grad(source)


def main() -> None:
    parser = argparse.ArgumentParser(description="Passes of encoders in training")
    parser.add_argument("--data", required=True)
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    catalog = prepare(table.load(path=given.data), k_core=5).catalog
    items = catalog[:]
    with tempfile.TemporaryDirectory() as folder:
        clip = Clip.tiny(Path(folder), items, text=TEXT)
    rows = {"tiny CLIP": measured(clip, items, len(items), given.rounds)}
    print(rows, flush=True)
    minilm = Sentence(checkpoint="all-MiniLM-L6-v2", text=TEXT)
    rows["MiniLM"] = measured(minilm, items, given.items, given.rounds)
    write(
        "live_passes", {"films": len(items), "items": {"tiny CLIP": len(items), "MiniLM": given.items}, "seconds": rows}
    )


if __name__ == "__main__":
    main()
