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


U, P, N = (rows.numpy() for rows in batch())


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


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def affine(weights: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"] + weights[f"{name}.offset"]


def projected(weights: dict[str, np.ndarray], m: str) -> np.ndarray:
    """x W + b, zeros for an item that lacks the modality."""
    x = features()[m].numpy()
    return np.where(x.any(1)[:, None], x @ weights[f"projections.maps.{m}"] + weights[f"projections.offsets.{m}"], 0)


def row_normalized(matrix: np.ndarray) -> np.ndarray:
    """D^-1/2 M D^-1/2 with the sums of the rows as D."""
    sums = matrix.sum(1)
    scale = np.divide(1, np.sqrt(np.abs(sums)), out=np.zeros(len(sums)), where=sums > 0)
    return scale[:, None] * matrix * scale


def half_squares(*rows: np.ndarray) -> float:
    return sum(float((row**2).sum()) for row in rows) / 2 / len(batch().users)


def rows_of_batch(users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    u, i, j = (part.numpy() for part in batch())
    return users[u], items[i], items[j]


def check(model: Recommender, users: np.ndarray, items: np.ndarray) -> None:
    model.begin_epoch(features(), generator())
    found = model.embed(features())
    np.testing.assert_allclose(found.users.detach(), users, atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(found.items.detach(), items, atol=1e-5, rtol=1e-4)


def means_of_powers(a: np.ndarray, nodes: np.ndarray, layers: int) -> np.ndarray:
    return sum(np.linalg.matrix_power(a, k) @ nodes for k in range(layers + 1)) / (layers + 1)


def normalized() -> np.ndarray:
    """D^-1/2 A D^-1/2 over users, then items."""
    return row_normalized(adjacency())


def similar_users() -> np.ndarray:
    """The softmax of the numbers of items in common, over all users with at least one."""
    counts = interactions() @ interactions().T
    np.fill_diagonal(counts, 0)
    shares = np.exp(counts) * (counts > 0)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-300)


def similar_items(neighbors: int, weights: dict[str, float]) -> np.ndarray:
    """FREEDOM's: ones at the nearest of each modality, D^-1/2 S D^-1/2, mixed."""
    mixed = np.zeros((ITEMS, ITEMS))
    for m, given in features().items():
        x = given.numpy().astype(np.float64)
        has = x.any(1)
        cosine = unit(x) @ unit(x).T  # 0 for an item that lacks the modality, which loses its edges
        s = (cosine >= np.sort(cosine, axis=1)[:, [-neighbors]]) & has & has[:, None]
        mixed += weights[m] * row_normalized(s.astype(np.float64))
    return mixed


def cosine_graphs(neighbors: dict[str, int]) -> dict[str, np.ndarray]:
    """MGCN's graph of each modality: the cosines of the nearest, D^-1/2 S D^-1/2."""
    graphs = {}
    for m, given in features().items():
        x = given.numpy().astype(np.float64)
        has = x.any(1)
        cosine = unit(x) @ unit(x).T
        kept = (cosine >= np.sort(cosine, axis=1)[:, [-neighbors[m]]]) & has & has[:, None]
        graphs[m] = row_normalized(np.where(kept, cosine, 0))
    return graphs


def symmetric_interactions() -> np.ndarray:
    """The weights of `normalized` at each interaction."""
    return normalized()[:USERS, USERS:]


def sides(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nodes[:USERS], nodes[USERS:]


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach(), expected, atol=1e-5)
