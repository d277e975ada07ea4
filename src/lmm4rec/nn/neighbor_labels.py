"""Items told apart by the neighbors that several views of them agree on, in blocks of rows."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import highest

_BLOCK_BYTES = 2**21  # of a block of one view's similarities: a CPU's cache
_SMALL = 1e-9


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
                loss, slopes = _loss_and_slopes(x.div_(temperature).exp_(), near, far)
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
    exponentials: Float[Tensor, "rows items"], near: Int[Tensor, "rows labels"], far: Int[Tensor, "rows labels"]
) -> tuple[Float[Tensor, ""], Float[Tensor, "rows items"]]:
    """The summed loss, and its derivatives by the exponents; `exponentials` are overwritten by these."""
    of_near, of_far = exponentials.gather(1, near), exponentials.gather(1, far)
    a, b = of_near.sum(1, keepdim=True), of_far.sum(1, keepdim=True)
    everyone = exponentials.sum(1, keepdim=True)
    others = (everyone - a).clamp(min=_SMALL)
    first, second = a / everyone + _SMALL, b / others + _SMALL
    by_others = b / (others.square() * second)
    by_everyone = a / (everyone.square() * first) + by_others
    slopes = exponentials.mul_(by_everyone)
    slopes.scatter_add_(1, near, of_near * (-1 / (everyone * first) - by_others))
    slopes.scatter_add_(1, far, of_far * (-1 / (others * second)))
    return -(first.log() + second.log()).sum(), slopes
