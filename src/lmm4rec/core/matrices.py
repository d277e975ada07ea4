"""Operations on matrices that are faster than torch's own, or that it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

_TILE = 2**19  # entries of a product in a tile: 2 MB
_SHORT = 512  # entries of a vector; packing longer ones for every tile costs more than it saves
_BLOCK_BYTES = 2**24
_GROUP = 8  # scores in a group, which the first pass represents by their maximum
_FEW = 16  # vectors for a row up to which the sum of a product is faster than a batch of matrix products
_WORTH = 64  # times as many scores as `k` make two passes faster than one


def dot_products(left: Float[Tensor, "rows dim"], right: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows columns"]:
    """`left @ right.T`; on a CPU, without gradient, in tiles that fit into its cache.

    Matrix libraries are slow at this shape, a wide product of short vectors: tiles take up to 40 % off the time of a
    ranking (7,000 to 18,000 items; nothing at 63,000).
    """
    width = max(1, _TILE // max(len(left), 1))
    trained = torch.is_grad_enabled() and (left.requires_grad or right.requires_grad)
    if trained or left.device.type != "cpu" or left.shape[1] > _SHORT or len(right) <= width:
        return left @ right.T
    product = left.new_empty(len(left), len(right))
    for start in range(0, len(right), width):
        tile = slice(start, start + width)
        torch.mm(left, right[tile].T, out=product[:, tile])
    return product


def dot_each(rows: Float[Tensor, "rows dim"], others: Float[Tensor, "rows others dim"]) -> Float[Tensor, "rows others"]:
    """The dot products of each row with its own others.

    On a CPU, up to 16 others are multiplied and summed; a batch of matrix products takes several times as long with its
    gradient.
    """
    if others.shape[1] > _FEW or others.device.type != "cpu":
        return torch.einsum("bd,bnd->bn", rows, others)
    return (rows[:, None] * others).sum(2)


def select_rows(matrix: Float[Tensor, "rows dim"], index: Int[Tensor, ...]) -> Float[Tensor, ...]:
    """`matrix[index]` by `index_select`, whose backward pass is several times faster than that of indexing."""
    return matrix.index_select(0, index.flatten()).view(*index.shape, matrix.shape[1])


def vectors_of_distinct(
    at: Callable[[Tensor], Tensor], *indices: Int[Tensor, ...]
) -> tuple[Float[Tensor, "... dim"], ...]:
    """The vectors at some indices of any shape, a tensor for each, by one call of `at` with distinct rows."""
    distinct, places = torch.unique(torch.cat([index.flatten() for index in indices]), return_inverse=True)
    vectors = at(distinct)
    parts = torch.split(places, [index.numel() for index in indices])
    return tuple(select_rows(vectors, part.view(index.shape)) for part, index in zip(parts, indices, strict=True))


def row_blocks(
    matrix: Float[Tensor, "rows dim"], index: Int[Tensor, " selected"]
) -> Iterator[Float[Tensor, "block dim"]]:
    """The rows `index` in consecutive blocks; on a CPU each is small enough for its memory to be reused.

    glibc allocates fresh pages for every tensor beyond 32 MB, and to zero these takes longer than to fill them.
    """
    bytes_per_row = matrix.shape[1] * matrix.element_size()
    size = _BLOCK_BYTES // bytes_per_row if matrix.device.type == "cpu" else len(index)
    for part in torch.split(index, max(size, 1)):
        yield select_rows(matrix, part)


def highest(scores: Float[Tensor, "rows columns"], k: int) -> tuple[Float[Tensor, "rows k"], Int[Tensor, "rows k"]]:
    """The `k` highest scores of each row, descending, and their columns: a faster `torch.topk` on a CPU.

    A row is divided into groups of eight scores: the `k` groups with the highest maxima hold the `k` highest scores,
    since each score above the k-th lies in a group whose maximum is above it, and there are fewer than `k` of those.
    It takes a half (`k` = 9) to two thirds (51) of the time. NaN counts as the highest. Which of equal scores are
    returned is undefined, as in `torch.topk`.
    """
    columns = scores.shape[1]
    if scores.device.type != "cpu" or columns < _WORTH * max(k, 1):
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


def positions_in_runs(
    starts: Int[Tensor, " runs"], lengths: Int[Tensor, " runs"]
) -> tuple[Int[Tensor, " positions"], Int[Tensor, " positions"]]:
    """The run of each position, and the positions of runs of consecutive ones, such as the entries of CSR rows."""
    runs = torch.repeat_interleave(lengths)
    return runs, torch.arange(len(runs), device=runs.device) + (starts - lengths.cumsum(0) + lengths)[runs]
