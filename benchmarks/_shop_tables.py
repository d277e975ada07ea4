"""Tables of the results page about a shop in service: feedback, five nights, warm starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _tables import table

_NAMES = {
    "films": "films",
    "baby": "Baby",
    "bpr": "BPR",
    "lightgcn": "LightGCN",
    "vbpr": "VBPR",
    "freedom": "FREEDOM",
    "bprsgd": "BPR-SGD",
}
_LINES = {"live": "refreshed each night", "frozen": "the bundle of the first night"}
_WAYS = ("cold", "warm")


def feedback(values: Mapping[str, Any]) -> str:
    """Posts of interactions beside lists."""
    head = ["", "a second", "p50 ms", "p99 ms", "largest", "errors"]
    rows = []
    for part in ("paced", "soak"):
        for kind in ("posts", "lists") if part in values else ():
            one = values[part][kind]
            times = [f"{one[name]:.0f}" for name in ("p50_ms", "p99_ms", "most_ms")]
            label = f"{kind}, for {one['seconds']:.0f} s"
            rows.append([label, f"{one['requests_per_s']:,.0f}", *times, str(one["errors"])])
    killed, workers = values["killed"], values["workers"]
    words = (
        f"Interactions posted one by one beside lists of 10 from {values['items']:,} items × {values['dim']}; "
        f"{workers} processes, with the client on the same two cores (`python benchmarks/feedback.py --soak 300 "
        f"--workers {workers}`). After a SIGKILL in the middle of the load, {killed['lost']} of "
        f"{killed['acknowledged']:,} acknowledged interactions were lost."
    )
    if "soak" in values:
        memory = ", ".join(f"{one:,.0f}" for one in values["soak"]["memory_mb_by_quarter"])
        words += f" Memory of all processes in the quarters of the soak, with what was posted: {memory} MB."
    return f"{words}\n\n{table(head, rows)}"


def five_nights(values: Mapping[str, Any]) -> str:
    """The live bundle of a drifting shop beside a frozen one."""
    days = range(1, len(values["lines"]["live"]) + 1)
    rows = []
    for name, points in values["lines"].items():
        label = _LINES.get(name, f"{name}, computed each night")
        rows.append([label, *(f"{point['mean']:.3f} ± {point['half_width']:.3f}" for point in points)])
    words = (
        f"Five nights of `lmm4rec refresh` (VBPR) on {len(values['shops'])} toy shops whose tastes drift and whose "
        "catalog grows: Recall@20 on each day's interactions, with 95 % intervals over users "
        "([figure](guide/week.md#what-it-is-worth), `python benchmarks/five_nights.py`)."
    )
    return f"{words}\n\n{table(['', *(f'day {day}' for day in days)], rows)}"


def warm_start(values: Mapping[str, Any]) -> str:
    """Warm starts beside cold ones."""
    head = ["", "seeds", "in the mean", "by seed", "within the spread", "test, cold", "warm"]
    rows = []
    for job, found in values["jobs"].items():
        ways = [[found["mean"]], *(found[level]["epochs"] for level in ("to_best", "within_spread"))]
        epochs = [", ".join(_ratio(each["warm"], each["cold"]) for each in way) for way in ways]
        means = [f"{found['test'][way]['mean']:.4f} ± {found['test'][way]['deviation']:.4f}" for way in _WAYS]
        label = ", ".join(_NAMES[one] for one in job.split(":"))
        rows.append([label, str(len(found["seeds"])), *epochs, *means])
    words = (
        f"Warm starts after {values['new']:.0%} new interactions: epochs, warm / cold, until the validation recall of "
        "the kept model is the cold start's last one in the mean over seeds; by seed until it is the cold start's "
        'best, and within the deviation over seeds of it ("never": stopped early below it); test Recall@20 with its '
        "deviation over seeds "
        "(`python benchmarks/warm_start.py`; [decision 42](decisions/0042-averaged-weights.md))."
    )
    return f"{words}\n\n{table(head, rows)}"


def _ratio(epochs: int | None, cold: int) -> str:
    return "never" if epochs is None else f"{epochs / cold:.2f}"
