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
    toolbox = values.get("toolbox", {}).get("ratio", {})
    head += ["most of the time goes to", *(["toolbox's ms", "ratio"] if toolbox else [])]
    rows = []
    for name, row in values["models"].items():
        figures = ["milliseconds_a_batch", "epoch_seconds_extrapolated", "evaluated_users_per_second", "peak_memory_mb"]
        cells = [name, *(f"{row[key]:,.1f}" if row[key] < 1000 else f"{row[key]:,.0f}" for key in figures)]
        cells.append(", ".join(f"{part} {share:.0%}" for part, share in islice(row.get("spent_on", {}).items(), 2)))
        if toolbox:
            known = name in toolbox
            cells += (
                [str(values["toolbox"]["milliseconds_a_batch"][name]), f"{toolbox[name]:.2f}"] if known else ["–"] * 2
            )
        rows.append(cells)
    words = f"{SPEEDS[data]}: batch 2,048, dim 64, features of 4,096 and 384 numbers, {values['threads']} threads"
    note = ""
    if toolbox:
        bare = values["bare_kernels"]["ratio"]
        note = (
            "\n\nThe toolbox's figures are of another day on two idle cores; the geometric mean of the ratios is "
            f"{values['toolbox']['geometric_mean']:.2f}. Beside the bare kernels of the same run: "
            + ", ".join(f"{name} {ratio:.1f}" for name, ratio in bare.items())
            + "."
        )
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
