"""Tables of the results page about training speed: ours, and beside the public toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from _tables import table

SPEEDS = {"baby": "Amazon Baby", "sports": "Amazon Sports", "clothing": "Amazon Clothing", "large": "Synthetic large"}


def speed(data: str, values: Mapping[str, Any]) -> str:
    """Cost of a batch, an epoch and a ranking of every trained model."""
    head = ["model", "ms a batch", "s an epoch", "users ranked a second", "peak MB"]
    head.append("most of the time goes to")
    rows = []
    for name, row in values["models"].items():
        figures = ["milliseconds_a_batch", "epoch_seconds_extrapolated", "evaluated_users_per_second", "peak_memory_mb"]
        cells = [name, *(f"{row[key]:,.1f}" if row[key] < 1000 else f"{row[key]:,.0f}" for key in figures)]
        cells.append(", ".join(f"{part} {share:.0%}" for part, share in islice(row.get("spent_on", {}).items(), 2)))
        rows.append(cells)
    words = f"{SPEEDS[data]}: batch 2,048, dim 64, features of 4,096 and 384 numbers, {values['threads']} threads"
    note = ""
    if bare := values.get("bare_kernels", {}).get("ratio"):
        ratios = ", ".join(f"{ratio:.1f} times ({name})" for name, ratio in bare.items())
        note = f"\n\nA batch takes {ratios} what its bare kernels take in the same run."
    return (
        f"{words} (`python benchmarks/speed.py --data {data}`).\n\n{table(head, rows)}{note}{shares(values['kernels'])}"
    )


def shares(kernels: Mapping[str, Any]) -> str:
    """What the kernels that all models are made of reach of the machine."""
    machine = kernels["machine"]
    found = [
        f"{name.replace('_', ' ')} {row[key]:.0%} of its {what}"
        for name, row in kernels.items()
        for key, what in (("share_of_bandwidth", "bandwidth"), ("share_of_flops", "FLOP/s"))
        if key in row
    ]
    return (
        f"\n\nThe machine copies {machine['copy_gigabytes_per_second']:.0f} GB/s and multiplies dense matrices at "
        f"{machine['matrix_gigaflops']:,.0f} GFLOP/s; {', '.join(found)}."
    )


def beside_toolbox(values: Mapping[str, Any]) -> str:
    """Ours beside the public toolbox, in turn in one run."""
    rows = [
        [name, f"{row['ours']:,.0f}", f"{row['toolbox']:,.0f}", f"{row['ratio']:.2f}", str(len(row["rounds"]))]
        for name, row in values["models"].items()
    ]
    words = (
        f"Ours beside the public MMRec toolbox on Baby, in turn in one run, {values['threads']} threads: milliseconds "
        f"a batch. The geometric mean of the ratios is {values['geometric_mean']:.2f} (`python benchmarks/toolbox.py`)."
    )
    return f"{words}\n\n{table(['model', 'ours', 'toolbox', 'ratio', 'rounds'], rows)}"


def time_to_quality(data: str, values: Mapping[str, Any]) -> str:
    """Seconds to the toolbox's best validation recall."""
    rows = []
    sides = ("ours", "toolbox")
    for name, row in values["models"].items():
        if "seconds" not in row:
            continue
        seconds = [", ".join(_seconds(each[side]) for each in row["seconds"].values()) for side in sides]
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.3f}"
        test = [f"{row['test'][side]:.4f}" for side in sides]
        users, memory = (
            [f"{row['cost'][side][key]:,.0f}" for side in sides] for key in ("users_per_second", "peak_memory_mb")
        )
        rows.append(
            [name if name == row["model"] else f"{name} ({row['model']})", *seconds, ratio, *test, *users, *memory]
        )
    words = (
        f"{data}: seconds until validation Recall@20 is what the public MMRec toolbox ends at, by seed, and the "
        f"toolbox's to the same place, {values['threads']} thread; test Recall@20 of whole trainings, users ranked a "
        "second, and peak memory. Seconds are epochs times what an epoch costs, both sides in turn in one run. Of the "
        "toolbox's settings the one that validates best counts (`python benchmarks/time_to_quality.py`)."
    )
    head = ["model", "seconds", "toolbox", "ratio", "test", "toolbox", "users/s", "toolbox", "peak MB", "toolbox"]
    return f"{words}\n\n{table(head, rows)}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:,.1f}"


def single_steps(values: Mapping[str, Any]) -> str:
    """BPR in single steps beside mini-batches and implicit."""
    logs = {"baby": "Baby", "large": "size of Electronics"}
    names = list(values["baby"]["seconds_an_epoch"])
    best = {**values["validation"], "implicit, 1 threads": max(values["validation"]["implicit"].values())}
    rows = []
    for name in names:
        seconds = [values[log]["seconds_an_epoch"].get(name) for log in logs]
        cells = ["–" if each is None else f"{each:.3f}" for each in seconds]
        rows.append([name, *cells, f"{best[name]:.4f}" if name in best else "–"])
    words = (
        "BPR, dim 64: seconds an epoch in single steps of machine code, in mini-batches, and in the C++ of implicit, "
        f"in turn in one run, one thread if not said; validation Recall@20 on Baby, best of {values['epochs']} epochs "
        "(`python benchmarks/single_steps.py`; [decision 44](decisions/0044-single-steps.md))."
    )
    return f"{words}\n\n{table(['', *logs.values(), 'Recall@20 on Baby'], rows)}"
