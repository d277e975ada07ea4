"""ItemKNN: items similar to those of the user, by common users or by content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features, Neighbors, NonNegativeFloat, PositiveInt
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph, histories, nearest
from lmm4rec.nn.neighborhoods import interaction_matrix
from lmm4rec.recommenders.base import Recommender

__all__ = ["ItemKNN"]


class ItemKNN(Recommender):
    """Item-based neighborhood model (Deshpande and Karypis 2004, doi 10.1145/963770.963776).

    score(u, i) = sum of s(j, i) over the items j of u, where each j counts for its `neighbors` most similar i only.

    - `similarity = "interactions"`: the cosine of the items' columns of the interaction matrix, shrunk:
      s(j, i) = |users of both| / (sqrt(|users of j| · |users of i|) + shrinkage).
    - `similarity = "content"`: the mean over modalities of the cosine of the items' features; an item that lacks a
      modality has similarity 0 there. It can rank items without any interaction. `shrinkage` is not used.
    """

    is_trained = False
    is_deterministic = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        similarity: Annotated[
            Literal["interactions", "content"],
            Doc("What makes items similar: common users, or content (needs an [encoder] table)."),
        ] = "interactions",
        neighbors: Annotated[PositiveInt, Doc("Most similar items to which an item of a history gives a score.")] = 50,
        shrinkage: Annotated[
            NonNegativeFloat, Doc("Added to the denominator of interactions' cosines: rare pairs count less.")
        ] = 0.0,
    ) -> None:
        super().__init__(graph)
        if similarity == "content" and not features:
            raise ConfigError("ItemKNN with similarity = 'content' needs features: give the conf an [encoder] table")
        self.similarity, self.neighbors, self.shrinkage = similarity, neighbors, shrinkage

    @classmethod
    def needs_features(cls, parameters: Mapping[str, Any]) -> bool:
        """Whether `similarity` is "content"."""
        return bool(parameters["similarity"] == "content")

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and the pruned item-item similarities, both sparse."""
        graph = self.graph
        neighbors_of = self._by_content if self.similarity == "content" else self._by_interactions
        values, similar = neighbors_of(features)
        sources = torch.arange(graph.n_items).repeat_interleave(values.shape[1])
        kept = values.flatten() > 0
        entries = (similar.flatten()[kept], sources[kept], values.flatten()[kept])
        return Neighbors(histories(graph), csr(*entries, (graph.n_items, graph.n_items)))

    def _by_content(self, features: Features) -> tuple[Float[Tensor, "items k"], Int[Tensor, "items k"]]:
        joined = torch.cat([F.normalize(x.float(), dim=1) for x in features.values()], dim=1)
        # the dot product of joined unit vectors is the sum of the modalities' cosines; their cosine would be higher
        # for items that lack a modality, since these are shorter
        values, similar = nearest(joined, self.neighbors, cosine=False)
        return values / len(features), similar

    def _by_interactions(self, features: Features) -> tuple[Float[Tensor, "items k"], Int[Tensor, "items k"]]:
        graph, block = self.graph, 1024
        matrix = interaction_matrix(graph)
        root = np.sqrt(graph.item_degrees.numpy().astype(np.float32))
        by_item = matrix.T.tocsr()
        k = min(self.neighbors, graph.n_items - 1)
        values, similar = [], []
        for start in range(0, graph.n_items, block):
            common = torch.from_numpy((by_item[start : start + block] @ matrix).toarray())
            scale = torch.from_numpy(np.outer(root[start : start + block], root) + self.shrinkage)
            cosine = common / scale.clamp(min=1e-12)
            rows = torch.arange(len(cosine))
            cosine[rows, rows + start] = 0  # an item does not recommend itself
            top = cosine.topk(k, dim=1)
            values.append(top.values)
            similar.append(top.indices)
        return torch.cat(values), torch.cat(similar)
