"""Users and items in each modality: users by trained preferences, items by their mapped features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.types import Features
from lmm4rec.nn.graph import propagate
from lmm4rec.nn.projections import Affine, Projections, has_content
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors

_HIDDEN = 4  # times the width of the output, as in the authors' code of DualGNN


class ModalityNodes(nn.Module):
    """The nodes of each modality over the interaction graph (DualGNN, doi 10.1109/TMM.2021.3138298, and DRAGON).

    Users have a trained preference, items W2 LeakyReLU(W1 x + b1) + b2 of their features; all are scaled to length 1
    and summed over the `layers` of the graph, with what they start from. An item that lacks a modality starts from 0.
    """

    def __init__(self, users: int, features: Features, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.preferences = nn.ParameterDict({m: xavier_table(users, dim, generator) for m in features})
        self.hidden = Projections(features, _HIDDEN * dim, generator)
        self.maps = nn.ModuleDict({m: Affine(_HIDDEN * dim, dim, generator) for m in features})

    def forward(
        self, features: Features, adjacency: SparseMatrix, layers: int
    ) -> Float[Tensor, "nodes modalities_dim"]:
        """The vectors of users, then of items, of the modalities one after another."""
        starts = []
        for modality, hidden in self.hidden(features).items():
            mapped = self.maps[modality](F.leaky_relu(hidden))
            items = torch.where(has_content(hidden)[:, None], mapped, 0.0)
            starts.append(unit_vectors(torch.cat([self.preferences[modality].all(), items])))
        return (layers + 1) * propagate(adjacency, torch.cat(starts, dim=1), layers)

    def preferences_of(self, users: Tensor) -> list[Tensor]:
        """The preferences of some users in each modality."""
        return [self.preferences[modality].rows(users) for modality in self.maps]
