"""The sequences of users' items in logs of interactions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lmm4rec.core.sequences import Sequences
from lmm4rec.data.interactions import Interactions


def sequences_of(parts: Sequence[Interactions], n_users: int) -> Sequences:
    """The users' items in the order of time, from several parts of one log; without times one part after the other."""
    users, items = (np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "items"))
    times = [part.timestamps for part in parts if part.timestamps is not None]
    ordered = Interactions(users, items, None, np.concatenate(times) if len(times) == len(parts) else None).by_time()
    return Sequences.of(torch.from_numpy(ordered.users).long(), torch.from_numpy(ordered.items), n_users)
