"""Tables of docs/results.md about paradigms and new items; `page.py` puts them there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _tables import table

TITLES = {"clip": "CLIP", "vlmo": "VLMo", "beit3": "BEiT-3"}
ADAPTERS = {"frozen": "frozen features", "side": "side", "last": "last 2 blocks", "lora": "LoRA", "none": "all of it"}


def adapters(values: Mapping[str, Any]) -> str:
    head = ["encoder", "trains", "s an epoch", "of a full one", "peak MB", "of a full one", "trainable parameters"]
    rows = []
    for encoder, title in TITLES.items():
        full = values[encoder]["none"]
        for adapter, words in ADAPTERS.items():
            if adapter not in values[encoder]:
                continue
            row = values[encoder][adapter]
            seconds, memory = row["epoch_seconds"], row["peak_memory_mb"]
            shares = [f"{seconds / full['epoch_seconds']:.4f}", f"{memory / full['peak_memory_mb']:.2f}"]
            cells = [f"{seconds:.2f}", shares[0], f"{memory:,.0f}", shares[1], f"{row['trainable_parameters']:,}"]
            rows.append([title, words, *cells])
    ratios = ", ".join(
        f"{title} {values[encoder]['compared']['side_to_frozen']['ratio']:.2f}" for encoder, title in TITLES.items()
    )
    options = values["settings"]
    command = f"python benchmarks/adapters.py --items {options['items']} --max-items {options['max_items']}"
    words = (
        f"VBPR with encoders of base size in training, random weights, {options['items']} items, at most "
        f"{options['max_items']} of them with gradient in a batch of {options['batch_size']:,} "
        f"(`{command}`). A side epoch beside a frozen one: {ratios}."
    )
    return f"{words}\n\n{table(head, rows)}"


def encodings(values: Mapping[str, Any]) -> str:
    head = ["", "Recall@20", "tail Recall@20", "encodings an epoch", "s an epoch"]
    rows = [
        [
            name,
            *(f"{row[key]:.4f}" for key in ("recall@20", "tail_recall@20")),
            f"{row['encodings_an_epoch']:,.0f}",
            f"{row['seconds_an_epoch']:.1f}",
        ]
        for name, row in values["variants"].items()
    ]
    options = values["options"]
    whole = next(iter(values["variants"].values()))["whole_catalog"]
    where = "Films" if options["data"] else "The toy shop"
    given = " ".join(f"--{key.replace('_', '-')} {options[key]}" for key in ("epochs", "batch_size", "evaluate_every"))
    command = f"python benchmarks/paradigms.py {given}" + (" --data FOLDER" if options["data"] else "")
    words = (
        f"{where}, {options['recommender']}, an untrained {options['checkpoint']} {options['encoder']}, "
        f"{options['epochs']} epochs, {options['seeds']} seed(s), nothing tuned; refreshes count. Encoding the whole "
        f"catalog after every batch would be {whole:,.0f} encodings an epoch (`{command}`)."
    )
    return f"{words}\n\n{table(head, rows)}"


def processes(values: Mapping[str, Any]) -> str:
    one, two = (values["seconds_an_epoch"][key] for key in ("1", "2"))
    return (
        f"An epoch bound by the encoder takes {one:.1f} s with one process of one thread and {two:.1f} s with two: "
        f"{values['speed_of_two']:.2f} times as fast (`python benchmarks/processes.py`). "
        "[Past one machine](guide/scale.md) has more of this, and tables in shards."
    )
