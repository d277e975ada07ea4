"""Scorers as the named tensors that a bundle stores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.nn.csr import csr_matrix
from lmm4rec.nn.neighborhoods import UserNeighbors
from lmm4rec.nn.sequence_networks import SequenceEmbeddings, SequenceNetwork, network_of
from lmm4rec.nn.transitions import Transitions

_SEQUENCES, _SETTING, _WEIGHT = "sequences:", "setting.", "network."
_OF_TRANSITIONS = ("popularity", "backoff")


def scorer_tensors(scorer: Scorer) -> tuple[dict[str, Tensor], str]:
    """The tensors of a scorer by name, and its kind: "embeddings", "neighbors", "user_neighbors", "transitions", or
    "sequences:" and the kind of its network.

    Raises:
        LMM4RecError: it is of another kind.
    """
    if isinstance(scorer, Embeddings):
        tensors = {"users": scorer.users.contiguous(), "items": scorer.items.contiguous()}
        if not isinstance(scorer, SequenceEmbeddings):
            return tensors, "embeddings"
        network = scorer.network
        tensors |= {f"{_SETTING}{name}": torch.tensor(value) for name, value in network.settings().items()}
        tensors |= {f"{_WEIGHT}{name}": x.detach().cpu().contiguous() for name, x in network.state_dict().items()}
        return tensors, f"{_SEQUENCES}{network.kind}"
    if isinstance(scorer, Neighbors):
        tensors = _matrix_parts("seen", scorer.seen) | _matrix_parts("similarity", scorer.similarity)
        if isinstance(scorer, Transitions):
            return tensors | {name: getattr(scorer, name).contiguous() for name in _OF_TRANSITIONS}, "transitions"
        if not isinstance(scorer, UserNeighbors):
            return tensors, "neighbors"
        options = {
            "neighbors": torch.tensor(scorer.neighbors),
            "shrinkage": torch.tensor(scorer.shrinkage, dtype=torch.float64),
        }
        tensors |= _matrix_parts("nearest", scorer.nearest)
        return tensors | {"item_weights": scorer.item_weights.contiguous(), **options}, "user_neighbors"
    raise LMM4RecError(f"cannot save a {type(scorer).__name__}: a bundle holds embeddings or neighbors")


def read_scorer(
    tensors: Mapping[str, Tensor], kind: str, parts: Mapping[str, slice], sizes: tuple[int, int, int]
) -> Scorer:
    """The scorer of a kind with these tensors; `sizes` are users, items, and items of the catalog.

    Raises:
        KeyError, ValueError: a tensor is missing, or its shape is wrong.
    """
    n_users, n_items, n_catalog = sizes
    if kind == "embeddings" or kind.startswith(_SEQUENCES):
        users, items = tensors["users"], tensors["items"]
        if (len(users), len(items)) != (n_users, n_items):
            raise ValueError(f"{len(users)} and {len(items)} vectors for {n_users} users and {n_items} items")
        if kind == "embeddings":
            return Embeddings(users, items, parts=parts)
        return SequenceEmbeddings(users, items, parts=parts, network=_network(tensors, kind.removeprefix(_SEQUENCES)))
    shapes = {"seen": (n_users, n_catalog), "similarity": (n_items, n_catalog)}
    seen, similarity = (_matrix(tensors, name, shape) for name, shape in shapes.items())
    if kind == "neighbors":
        return Neighbors(seen, similarity)
    if kind == "transitions":
        return Transitions(seen, similarity, *(tensors[name] for name in _OF_TRANSITIONS))
    nearest, weights = _matrix(tensors, "nearest", (n_users, n_users)), tensors["item_weights"]
    return UserNeighbors(seen, similarity, nearest, weights, int(tensors["neighbors"]), float(tensors["shrinkage"]))


def _network(tensors: Mapping[str, Tensor], kind: str) -> SequenceNetwork:
    settings, weights = (
        {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        for prefix in (_SETTING, _WEIGHT)
    )
    network = network_of(kind, {name: int(x) for name, x in settings.items()})
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return network


def _matrix_parts(name: str, matrix: Tensor) -> dict[str, Tensor]:
    if matrix.layout == torch.strided:
        return {name: matrix.contiguous()}
    parts = {"crow": matrix.crow_indices(), "columns": matrix.col_indices(), "values": matrix.values()}
    return {f"{name}.{part}": tensor.contiguous() for part, tensor in parts.items()}


def _matrix(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    if name in tensors:
        if tensors[name].shape != shape:
            raise ValueError(f"the matrix '{name}' is {tuple(tensors[name].shape)}, expected {shape}")
        return tensors[name]
    crow, columns, values = (tensors[f"{name}.{part}"] for part in ("crow", "columns", "values"))
    return csr_matrix(crow, columns, values, shape, check=True)
