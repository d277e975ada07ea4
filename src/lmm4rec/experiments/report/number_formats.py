"""Numbers in words: the headline, the footnotes, and how each kind of number is written."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from lmm4rec.experiments.report.view import ReportView, RunView

_METRICS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hitrate": "HitRate", "hit_rate": "HitRate"}
_SAME = 0.01  # a relative difference below this is called none


def metric_name(metric: str) -> str:
    """A metric as papers write it: "recall@20" -> "Recall@20", "ndcg@20" -> "NDCG@20"."""
    name, at, k = metric.partition("@")
    return _METRICS.get(name, name.replace("_", " ").capitalize()) + at + k


def companion(metric: str) -> str:
    """The metric that is shown beside the first one: NDCG at the same k, or recall beside NDCG."""
    name, at, k = metric.partition("@")
    return ("recall" if name == "ndcg" else "ndcg") + at + k


def validation_winner(runs: Sequence[RunView], metric: str) -> RunView:
    """The run that the validation set prefers."""
    return max(runs, key=lambda run: run.valid[metric])


def headline(view: ReportView) -> str:
    """The result in a sentence: what content brings over the best model without it, also where it brings nothing.

    Validation picks the two models that are compared; the figures are those of the test set.
    """
    content = [run for run in view.runs if run.uses_content]
    plain = [run for run in view.runs if not run.uses_content]
    if content and plain:
        return _gain(validation_winner(content, view.metric), validation_winner(plain, view.metric), view.metric)
    best = validation_winner(view.runs, view.metric)
    kind = ", the best of these models on validation," if len(view.runs) > 1 else ""
    return f"{best.label}{kind} reaches {_reached(best, view.metric)} on the test set."


def _gain(rich: RunView, bare: RunView, metric: str) -> str:
    high, low = float(rich.test[metric]), float(bare.test[metric])
    gain = high - low
    by = _percent(abs(gain) / low) if low > 0 else metric_value(abs(gain))
    reached = f"{rich.label} reaches {_reached(rich, metric)} on the test set"
    rival = f"{bare.label} ({metric_value(low)}), the best model without content"
    if abs(gain) <= _SAME * low:
        sentence = f"Content makes no difference here: {reached}, practically the same as {rival}."
    elif gain > 0:
        sentence = f"{reached}, {by} more than {rival}."
    else:
        sentence = f"Content brings no gain here: {reached}, {by} less than {rival}."
    if gain * (rich.valid[metric] - bare.valid[metric]) < 0:
        sentence += " On validation it is the other way round, so take the difference with care."
    return sentence


def _reached(run: RunView, metric: str) -> str:
    return f"{metric_name(metric)} {metric_value(float(run.test[metric]))}"


def footnotes(view: ReportView) -> list[str]:
    """How the figures came about: the choice, the ranking, the mask, the seeds."""
    seeds = sorted({run.seed for run in view.runs})
    notes = [
        f"Models, epochs and settings were chosen on validation {metric_name(view.metric)}; "
        "the test set was read once, after the choice.",
        "Full ranking: every item of the catalog competes for every user; the measurement samples no negatives.",
        f"Left out of the test ranking: {view.masked}.",
    ]
    if len(seeds) == 1:
        notes.append(f"One seed ({seeds[0]}): differences of a few percent can be chance.")
    else:
        notes.append(f"Seeds: {', '.join(map(str, seeds))}.")
    return notes


def metric_value(value: float) -> str:
    """A metric between 0 and 1, with four decimals."""
    return f"{value:.4f}"


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
    """A number of things: "950", "64.2 k", "1.31 M", "2.10 B"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def megabytes(value: float) -> str:
    """An amount of memory, given in MB."""
    return f"{value:.0f} MB" if value < 1000 else f"{value / 1000:.1f} GB"


def number(value: float) -> str:
    """A number of unknown kind, with three decimals."""
    return f"{value:,.3f}"


def initials(title: str) -> str:
    """At most two letters that stand for a title where there is no image."""
    words = re.findall(r"\w+", title)
    return "".join(word[0] for word in words[:2]).upper() or "?"


def some(names: Sequence[str], most: int = 12) -> str:
    """The first of many names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def with_code(text: str) -> Markup:
    """The text, safe for a page, with what stands between backticks set as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)  # a backtick without a partner is no mark
    marked = (Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
    return Markup("").join(marked)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def is_number(value: object) -> bool:
    """Whether a value can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)
