"""Formats of the numbers and names in a report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

_METRICS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "HitRate", "hit_rate": "HitRate"}


def metric_name(metric: str) -> str:
    """A metric as papers write it: "recall@20" -> "Recall@20", "ndcg@20" -> "NDCG@20"."""
    name, at, k = metric.partition("@")
    return _METRICS.get(name, name.replace("_", " ").capitalize()) + at + k


def companion(metric: str) -> str:
    """The metric that is shown beside the main one: NDCG at the same k, or recall beside NDCG."""
    name, at, k = metric.partition("@")
    return ("recall" if name == "ndcg" else "ndcg") + at + k


def metric_value(value: float) -> str:
    """A metric between 0 and 1, with four decimals."""
    return f"{value:.4f}"


def number(value: float) -> str:
    """A number of any other kind, with three decimals."""
    return f"{value:,.3f}"


def percent(share: float) -> str:
    """A share: "25%", "1.7%"."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def p_value(p: float) -> str:
    """A p-value as papers write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def seconds(value: float) -> str:
    """A duration: "0 s", "0.42 s", "38 s", "2 min 05 s", "3 h 12 min"."""
    if 0 < value < 0.01:
        return "< 0.01 s"
    if value < 9.5:
        return f"{value:.2g} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(value: float) -> str:
    """A number of items, parameters or the like: "950", "64.2 k", "1.31 M", "2.10 B"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def megabytes(value: float) -> str:
    """An amount of memory, passed in MB."""
    return f"{value:.0f} MB" if value < 1000 else f"{value / 1000:.1f} GB"


def initials(title: str) -> str:
    """At most two initials of a title, shown where there is no image."""
    words = re.findall(r"\w+", title)
    return "".join(word[0] for word in words[:2]).upper() or "?"


def first_names(names: Sequence[str], limit: int = 12) -> str:
    """The first names of a list, and the number of the others."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def with_code(text: str) -> Markup:
    """The text, escaped for HTML, with what stands between backticks set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)  # a backtick without a partner marks nothing
    marked = (Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
    return Markup("").join(marked)
