"""Single steps of gradient descent on triples (user, positive, negative), compiled to machine code by Numba."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float32, Int64

from lmm4rec.core.compiled import compiled

_FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}  # sums in any order; what is not finite stays so
MOST_DRAWS = 1000  # of a negative; a user with nearly all items then has no step for this pair


def descend(
    users: Int64[np.ndarray, " pairs"],
    starts: Int64[np.ndarray, " users_and_1"],
    items: Int64[np.ndarray, " pairs"],
    user_vectors: Float32[np.ndarray, "users dim"],
    item_vectors: Float32[np.ndarray, "items dim"],
    rate: np.float32,
    l2: np.float32,
    seed: int,
) -> float:
    """The mean of -log sigmoid(x_ui - x_uj) over one pass, in which all pairs are visited once in random order.

    Each pair gets a negative j drawn anew from the items of which the user has none. A step adds
    rate * (sigmoid(x_uj - x_ui) * gradient of (x_ui - x_uj) - l2 * vector) to the three vectors, in place.

    `users` ascend; `starts` are where each begins, `items` ascend within a user. Source: Rendle et al. 2009
    (arXiv 1205.2618), fig. 4.
    """
    np.random.seed(seed)
    order = np.random.permutation(len(users))
    n_items, dim = item_vectors.shape
    one, total, steps = np.float32(1), 0.0, 0
    for pair in order:
        u, i = users[pair], items[pair]
        j, draws = i, 0
        while draws < MOST_DRAWS:
            j = np.random.randint(n_items)
            low, high = starts[u], starts[u + 1]
            while low < high:
                middle = (low + high) // 2
                if items[middle] < j:
                    low = middle + 1
                else:
                    high = middle
            if low == starts[u + 1] or items[low] != j:
                break
            draws += 1
        if draws == MOST_DRAWS:
            continue
        x = np.float32(0)
        for k in range(dim):
            x += user_vectors[u, k] * (item_vectors[i, k] - item_vectors[j, k])
        slope = one / (one + np.exp(x))
        total += np.log1p(np.exp(-abs(x))) + max(-x, 0)
        steps += 1
        for k in range(dim):
            user, positive, negative = user_vectors[u, k], item_vectors[i, k], item_vectors[j, k]
            user_vectors[u, k] += rate * (slope * (positive - negative) - l2 * user)
            item_vectors[i, k] += rate * (slope * user - l2 * positive)
            item_vectors[j, k] += rate * (-slope * user - l2 * negative)
    return float(total / max(steps, 1))


@cache
def compiled_descend() -> Callable[..., float]:
    """`descend` as machine code.

    Raises:
        MissingExtraError: Numba is not installed.
    """
    return compiled(descend, purpose="gradient descent in single steps", fastmath=_FAST)
