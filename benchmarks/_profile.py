"""Where the time of losses and their gradient goes: graph products, dense products, picking rows, all else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

GATHERS = ("index", "gather", "scatter", "embedding", "take")
DENSE = {"aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::addbmm", "aten::dot", "aten::mv"}


def shares(step: Callable[[], object], sides: set[int]) -> dict[str, float]:
    """The share of each kind in `step`'s time; a graph's product is told by a first factor of nodes on both `sides`."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        step()
    totals: dict[str, float] = {}
    for event in seen.key_averages(group_by_input_shape=True):
        name = _kind(event.key, event.input_shapes, sides)
        totals[name] = totals.get(name, 0.0) + event.self_cpu_time_total
    whole = sum(totals.values())
    return {name: time / whole for name, time in sorted(totals.items(), key=lambda pair: -pair[1])}


def _kind(name: str, shapes: Any, sides: set[int]) -> str:
    if name in DENSE:
        factor = shapes[1 if "add" in name else 0]
        return "graph products" if set(factor) <= sides else "dense products"
    if any(word in name for word in GATHERS):
        return "picking rows"
    return "elementwise, norms, copies"
