"""A small world in torch and as dense NumPy matrices, for a paper's equations in a few lines."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from lmm4rec.core.types import Batch
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender

USERS, ITEMS = 6, 5


def graph() -> InteractionGraph:
    """User 5 and item 4 have no edge."""
    users, items = torch.tensor([[0, 0, 1, 2, 2, 2, 3, 4], [0, 1, 1, 1, 2, 3, 3, 0]])
    return InteractionGraph(users, items, USERS, ITEMS)


def interactions() -> np.ndarray:
    matrix = np.zeros((USERS, ITEMS))
    matrix[graph().users.numpy(), graph().items.numpy()] = 1
    return matrix


def adjacency() -> np.ndarray:
    """Users, then items; 1 at each edge."""
    a = interactions()
    return np.block([[np.zeros((USERS, USERS)), a], [a.T, np.zeros((ITEMS, ITEMS))]])


def light(a: np.ndarray, layers: int) -> np.ndarray:
    """LightGCN as one matrix: the mean of the powers of D^-1/2 A D^-1/2."""
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1))
    normalized = scale[:, None] * a * scale
    return sum(np.linalg.matrix_power(normalized, k) for k in range(layers + 1)) / (layers + 1)


def features() -> dict[str, Tensor]:
    """Item 2 lacks its image."""
    generator = torch.Generator().manual_seed(1)
    tables = {"image": torch.randn(ITEMS, 4, generator=generator), "text": torch.randn(ITEMS, 3, generator=generator)}
    tables["image"][2] = 0
    return tables


def batch() -> Batch:
    return Batch(torch.tensor([0, 2, 4]), torch.tensor([1, 3, 0]), torch.tensor([[2, 3], [0, 4], [1, 2]]))


def number(model: nn.Module) -> dict[str, np.ndarray]:
    """All parameters moved off their first values, zeros too, and given as NumPy."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return {name: parameter.detach().numpy().astype(np.float64) for name, parameter in model.named_parameters()}


def losses(model: Recommender, seed: int = 0, given: Batch | None = None) -> dict[str, float]:
    """The model's losses as numbers."""
    with torch.no_grad():
        terms = model.losses(given or batch(), features(), torch.Generator().manual_seed(seed))
    return {name: float(term) for name, term in terms.items()}


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def bpr(users: np.ndarray, items: np.ndarray) -> float:
    """The mean of -log sigmoid of the score differences in the batch."""
    given = batch()
    u, i, j = (rows.numpy() for rows in given)
    positive, other = (users[u] * items[i]).sum(1), np.einsum("bd,bnd->bn", users[u], items[j])
    return float(np.log1p(np.exp(other - positive[:, None])).mean())


def info_nce(left: np.ndarray, right: np.ndarray, temperature: float) -> float:
    shares = np.exp(unit(left) @ unit(right).T / temperature)
    return float(-np.log(np.diag(shares) / shares.sum(1)).mean())
