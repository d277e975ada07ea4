"""The highest scores of each row."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GROUP = 8  # scores in a group, which the first pass represents by their maximum
_WORTH = 64  # times as many scores as `k` make two passes faster than one


def highest(scores: Float[Tensor, "rows columns"], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The `k` highest scores of each row, descending, and their columns: a faster `torch.topk` on a CPU.

    A row is divided into groups of eight scores: the `k` groups with the highest maxima hold the `k` highest scores,
    since each score above the k-th lies in a group whose maximum is above it, and there are fewer than `k` of those.
    It takes a half (`k` = 9) to two thirds (51) of the time. NaN counts as the highest. Which of equal scores are
    returned is undefined, as in `torch.topk`.
    """
    columns = scores.shape[1]
    if scores.device.type != "cpu" or columns < _WORTH * k:
        top = scores.topk(k, dim=1)
        return top.values, top.indices
    groups = columns // _GROUP
    grouped = _GROUP * groups
    maxima = scores[:, :grouped].view(len(scores), _GROUP, groups).amax(dim=1)
    leaders = maxima.topk(k, dim=1, sorted=False).indices
    members = (leaders[:, None, :] + torch.arange(0, grouped, groups)[:, None]).flatten(1)
    remainder = torch.arange(grouped, columns).expand(len(scores), -1)
    candidates = torch.cat([members, remainder], dim=1)
    values, places = scores.gather(1, candidates).topk(k, dim=1)
    return values, candidates.gather(1, places)
