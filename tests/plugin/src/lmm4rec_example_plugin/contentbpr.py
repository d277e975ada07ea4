"""ContentBPR: matrix factorization whose item vectors also come from content."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.losses import bpr, l2
from lmm4rec.nn.tables import normal_table, xavier_table
from lmm4rec.recommenders.base import Recommender


class ContentBPR(Recommender):
    """score(u, i) = g_u · (g_i + sum over modalities m of W_m f_i^m / |f_i^m|), trained with BPR (arXiv 1205.2618)."""

    uses_content = True  # it needs features, and says so where there are none

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: PositiveInt = 32,
        l2_weight: NonNegativeFloat = 1e-3,
    ) -> None:
        super().__init__(graph)
        if not features:
            raise ConfigError("ContentBPR needs features of at least one modality: give the conf an [encoder] table")
        self.l2_weight = l2_weight
        self.users = normal_table(graph.n_users, dim, generator, std=0.1)
        self.items = normal_table(graph.n_items, dim, generator, std=0.1)
        self.maps = nn.ParameterDict({m: xavier_table(x.shape[1], dim, generator) for m, x in features.items()})

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` and `l2`."""
        users = self.users.rows(batch.users)
        positives, negatives = (
            ids + self._content(features, items)
            for ids, items in zip(self.items.rows(batch.positives, batch.negatives), batch[1:], strict=True)
        )
        ranking = bpr((users * positives).sum(1), torch.einsum("bd,bnd->bn", users, negatives))
        return {"bpr": ranking, "l2": self.l2_weight * l2(users, positives, batch=len(users))}

    def embed(self, features: Features) -> Embeddings:
        """The users' vectors and the items', content included."""
        every = torch.arange(self.graph.n_items, device=self.graph.items.device)
        return Embeddings(self.users.all(), self.items.all() + self._content(features, every))

    def _content(self, features: Features, items: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows dim"]:
        """The content of some items; a row of zeros (the item lacks the modality) adds nothing, without gradient."""
        parts = []
        for modality, x in features.items():
            rows = x[items]
            has = (rows != 0).any(-1, keepdim=True)
            parts.append(torch.where(has, F.normalize(rows, dim=-1) @ self.maps[modality].all(), 0.0))
        return torch.stack(parts).sum(0)
