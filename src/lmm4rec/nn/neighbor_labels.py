"""Items told apart by the neighbors that several views of them agree on, in blocks of rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import highest

_BLOCK_BYTES = 2**21  # of a block of one view's similarities: a CPU's cache
_SMALL = 1e-9  # added to a share before its logarithm
_SMALLEST_SUM = 1e-30  # below, shares of a part have lost digits in float32


def neighbor_discrimination(
    units: Float[Tensor, "views items dim"], rows: Int[Tensor, " chosen"], labels: int, temperature: float
) -> Float[Tensor, ""]:
    """The mean over views and chosen items of -log(A / T) - log(B / (T - A)) (DA-MRS, arXiv 2406.12501).

    T is the sum of exp(cosine / `temperature`) of an item's unit vector with those of all items in a view, A that over
    its near items and B that over its far ones. With p the softmax of an item's cosines in a view, near are the
    `labels` items with the largest sum of p over all views, this view's counted twice; far are the `labels` others with
    the largest p in this view. Labels have no gradient. At most half of the items are near.

    Gradients are computed with the values, block by block: nothing of size chosen × items is kept.
    """
    labels = min(labels, max(1, units.shape[1] // 2))
    total = cast(Tensor, _Discrimination.apply(units, rows, labels, temperature))  # type: ignore[no-untyped-call]
    return total / (len(rows) * len(units))


class _Discrimination(torch.autograd.Function):
    """The sum over views and rows, whose gradient is a by-product of its value."""

    @staticmethod
    def forward(ctx: Any, units: Tensor, rows: Tensor, labels: int, temperature: float) -> Tensor:
        gradient, total = torch.zeros_like(units), units.new_zeros(())
        size = max(1, _BLOCK_BYTES // (units.shape[1] * units.element_size())) if units.device.type == "cpu" else 512
        for block in torch.split(rows, size):
            cosines = [view[block] @ view.T for view in units]
            shares = [x.softmax(dim=1) for x in cosines]
            together = torch.stack(shares).sum(0)
            for view, x, share, into in zip(units, cosines, shares, gradient, strict=True):
                near = highest(together + share, labels)[1]
                far = highest(share.scatter_(1, near, 0.0), labels)[1]
                loss, slopes = _loss_and_slopes(x.div_(temperature), near, far)
                total += loss
                slopes /= temperature
                into.index_add_(0, block, slopes @ view)
                into.addmm_(slopes.T, view[block])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream[0] * gradient, None, None, None


def _loss_and_slopes(
    exponents: Float[Tensor, "rows items"], near: Int[Tensor, "rows labels"], far: Int[Tensor, "rows labels"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows items"]]:
    """The summed loss, and its derivatives by the exponents.

    The derivative of -log(a), where a is the sum of some shares of a softmax, is every share less those over a.
    """
    shares = exponents.softmax(dim=1)
    rest = shares.scatter(1, near, 0.0)
    others = rest.sum(1, keepdim=True)
    if float(others.min()) > _SMALLEST_SUM:
        rest /= others
    else:
        rest = exponents.scatter(1, near, -torch.inf).softmax(dim=1).nan_to_num_()  # NaN where all items are near
    total = exponents.new_zeros(())
    for part, chosen in ((shares, near), (rest, far)):
        of_chosen = part.gather(1, chosen)
        share = of_chosen.sum(1, keepdim=True)
        total -= (share + _SMALL).log().sum()
        part.mul_(share / (share + _SMALL))
        part.scatter_add_(1, chosen, -of_chosen / (share + _SMALL))
    return total, shares.add_(rest)
