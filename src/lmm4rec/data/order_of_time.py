"""What is known of the order of time of interactions, for models that read it."""

from __future__ import annotations

import numpy as np

from lmm4rec.data.findings import Finding
from lmm4rec.data.splits import PARTS, Split

_IN_TIME = ("user_time", "global_time", "leave_last_out", "labels")  # methods that keep the order, or may


def order_findings(split: Split) -> tuple[Finding, ...]:
    """Findings on the order of the training part: missing and equal timestamps, and a split that breaks the order."""
    train, findings = split.train, []
    if split.method not in _IN_TIME and any(map(split.holds_out, PARTS)):
        message = (
            f"the split '{split.method}' holds out interactions from between those of training: a model of sequences "
            'then reads what comes later. Take "leave_last_out", "user_time" or "global_time"'
        )
        findings.append(Finding("order-of-split", "warning", len(train), message))
    if train.timestamps is None:
        message = "there are no timestamps: the order of the file is taken as the order of time"
        return (*findings, Finding("order-of-file", "warning", len(train), message))
    order = np.lexsort((train.timestamps, train.users))
    users, times = train.users[order], train.timestamps[order]
    follows = users[1:] == users[:-1]
    equal = int((follows & (times[1:] == times[:-1])).sum())
    if not equal:
        return tuple(findings)
    everywhere = equal == int(follows.sum())
    message = (
        f"{'all' if everywhere else f'{equal:,} of'} {int(follows.sum()):,} interactions that follow another of their "
        "user have its timestamp: these are taken in the order of the file"
    )
    return (*findings, Finding("equal-times", "warning" if everywhere else "note", equal, message))
