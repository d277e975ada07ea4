"""MVGAE: a variational graph encoder for each modality and the ids, joined as a product of experts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import dot_each, select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, dropout, normalize
from lmm4rec.nn.losses import bpr
from lmm4rec.nn.projections import Affine, Projections, has_content
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table, xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["MVGAE"]

_LARGEST = 10.0  # log variance
_SMALL = 1e-8  # added to a variance
_HEADS = ("mean", "log_variance")
Nodes = Float[Tensor, "nodes dim"]


class Posterior(NamedTuple):
    """A Gaussian for each node, by one expert; a node that lacks the expert's modality has none."""

    mean: Nodes
    log_variance: Nodes
    present: Bool[Tensor, " nodes"]

    def divergence(self) -> Float[Tensor, ""]:
        """The Kullback-Leibler divergence to the standard Gaussian, the mean over nodes."""
        log_variance = self.log_variance.clamp(max=_LARGEST)
        terms = self.mean.square() + log_variance.exp() - log_variance - 1
        return 0.5 * (terms.sum(1) * self.present).sum() / self.present.sum().clamp(min=1)


class MVGAE(Recommender):
    """Multi-modal variational graph auto-encoder (Yi and Chen, TMM 2021, doi 10.1109/TMM.2021.3111487).

    - Experts: one for each modality and one for the ids. It starts from x, the users' trained preferences and the
      items' W_m x + b or id vectors, of length 1. With M the mean over a node's neighbors and itself, and c(x) =
      LeakyReLU(unit of M(x W) + b), dropped out in training: x <- LeakyReLU(c(x) W + b), `layers` times; then mean and
      log variance are each c(x) W + b + LeakyReLU(x W + b), with weights of their own.
    - Product of experts: precision = sum of 1 / variance, mean = sum of mean / variance, over the precision.
    - Sampling in training: z = mean + `noise` · standard deviation · N(0, 1). Score: user · item, of the product's
      means, or of their sigmoid where they are to `squash`.
    - Loss: BPR of z for the product, and for each expert alone; `kl_weight` times their Kullback-Leibler divergences to
      N(0, 1), means over all nodes.

    An item that lacks a modality has no such expert: nothing in the product, in that expert's BPR and divergence.
    Without `ids` the experts are those of the modalities alone; an item that lacks all of them has a mean of zeros.

    Differs from the authors' code: its BPR reads item ids as rows of users; id vectors and preferences are tensors that
    no optimizer has; scores pass a sigmoid before BPR, which is flat at width 64 with squashed vectors; negatives are
    the hardest of the batch for every user, often one of the user's own items; losses are sums over the batch, in log2.
    Here items are items, all of it trains, BPR is that of the scores and of each triple's own negatives, and a mean
    (their beta at batch 2,048 is beta / 2,048 as `kl_weight`). Vectors are squashed there for sparse data, here where
    it is asked for. Experts are multiplied at once (there modalities first, which adds 1e-8 once more). As there,
    `noise` is 0.1 by default, which keeps z near the mean (1: the textbook's sampling).
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the latent vectors.")] = 64,
        ids: Annotated[bool, Doc("An expert of user and item ids; false: those of the modalities alone.")] = True,
        content_dim: Annotated[PositiveInt, Doc("Width of preferences, ids and projected features.")] = 128,
        layers: Annotated[PositiveInt, Doc("Graph convolutions before those of mean and variance.")] = 1,
        dropout: Annotated[Fraction, Doc("Share of a convolution's numbers that are set to zero in training.")] = 0.1,
        noise: Annotated[NonNegativeFloat, Doc("Standard deviations of the noise in training.")] = 0.1,
        squash: Annotated[bool, Doc("Rank by the sigmoid of latent vectors, as the authors do.")] = False,
        kl_weight: Annotated[NonNegativeFloat, Doc("Weight of the divergences to the standard Gaussian.")] = 1e-4,
    ) -> None:
        super().__init__(graph, features)
        self.noise, self.squash, self.kl_weight = noise, squash, kl_weight
        self.nodes = node_table(graph.n_users, graph.n_items, content_dim, generator) if ids else None
        self.preferences = nn.ParameterDict({m: xavier_table(graph.n_users, content_dim, generator) for m in features})
        self.projections = Projections(features, content_dim, generator)
        widths = [content_dim] + [dim] * layers
        self.experts = nn.ModuleDict({m: _Expert(widths, dropout, generator) for m in features})
        self.id_expert = _Expert(widths, dropout, generator) if ids else None
        self.adjacency = normalize(graph, "row", self_loops=True)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` of the product, `bpr_by_expert` and `kl`."""
        nodes = distinct_nodes(batch)
        experts = self._posteriors(features, generator)
        chosen = torch.cat([nodes.users, nodes.items + self.graph.n_users])
        posteriors = [product(experts), *experts]
        losses = [self._bpr(posterior, chosen, nodes.rows, generator) for posterior in posteriors]
        divergences = [posterior.divergence() for posterior in posteriors]
        return {
            "bpr": losses[0],
            "bpr_by_expert": torch.stack(losses[1:]).sum(),
            "kl": self.kl_weight * torch.stack(divergences).sum(),
        }

    def embed(self, features: Features) -> Embeddings:
        """The means of the product, or their sigmoid."""
        mean = product(self._posteriors(features, None)).mean
        return Embeddings(*self.graph.sides(mean.sigmoid() if self.squash else mean))

    def _posteriors(self, features: Features, generator: torch.Generator | None) -> list[Posterior]:
        """Those of each modality, then that of the ids if any; with dropout where there is a generator."""
        found: list[Posterior] = []
        for modality, items in self.projections(features).items():
            preferences = self.preferences[modality].all()
            present = torch.cat([torch.ones_like(preferences[:, 0], dtype=torch.bool), has_content(items)])
            start = torch.cat([preferences, items])
            found.append(self.experts[modality](start, present, self.adjacency, generator))
        if self.nodes is not None and self.id_expert is not None:
            ids = self.nodes.all()
            found.append(self.id_expert(ids, torch.ones_like(ids[:, 0], dtype=torch.bool), self.adjacency, generator))
        return found

    def _bpr(self, posterior: Posterior, chosen: Tensor, rows: Tensor, generator: torch.Generator) -> Float[Tensor, ""]:
        """BPR of sampled vectors; a pair with an item that has none counts as a tie."""
        mean, log_variance = (select_rows(x, chosen) for x in (posterior.mean, posterior.log_variance))
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        z = mean + self.noise * noise * (log_variance.clamp(max=_LARGEST) / 2).exp()
        vectors = select_rows(z.sigmoid() if self.squash else z, rows)
        scores = dot_each(vectors[:, 0], vectors[:, 1:])
        has = posterior.present[chosen][rows[:, 1:]]
        difference = (scores[:, :1] - scores[:, 1:]) * (has[:, :1] & has[:, 1:])
        return bpr(torch.zeros_like(difference[:, 0]), -difference)


def product(experts: Sequence[Posterior]) -> Posterior:
    """The product of Gaussians."""
    precisions = [p.present[:, None] / (p.log_variance.exp() + _SMALL) for p in experts]
    total = torch.stack(precisions).sum(0).clamp(min=_SMALL)  # 0 where there is no expert
    mean = torch.stack([t * p.mean for t, p in zip(precisions, experts, strict=True)]).sum(0) / total
    return Posterior(mean, -total.log(), torch.stack([p.present for p in experts]).any(0))


class _Expert(nn.Module):
    """A Gaussian for each node, from its first vector and those of its neighbors."""

    def __init__(self, widths: list[int], dropout: float, generator: torch.Generator) -> None:
        super().__init__()
        self.dropout, dim = dropout, widths[-1]
        self.layers = nn.ModuleList(Affine(*pair, generator) for pair in itertools.pairwise(widths))
        self.layers_joined = nn.ModuleList(Affine(dim, dim, generator) for _ in self.layers)
        self.neighbors = nn.ModuleDict({head: Affine(dim, dim, generator) for head in _HEADS})
        self.joined = nn.ModuleDict({head: Affine(dim, dim, generator) for head in _HEADS})
        self.own = nn.ModuleDict({head: Affine(dim, dim, generator) for head in _HEADS})

    def forward(
        self,
        start: Float[Tensor, "nodes width"],
        present: Bool[Tensor, " nodes"],
        adjacency: SparseMatrix,
        generator: torch.Generator | None,
    ) -> Posterior:
        """The posterior; with dropout where there is a generator."""
        x = unit_vectors(start)
        for neighbors, joined in zip(self.layers, self.layers_joined, strict=True):
            x = F.leaky_relu(joined(self._convolved(adjacency(neighbors(x)), generator)))
        # both heads gather from the same nodes: one product with the graph
        gathered = adjacency(torch.cat([self.neighbors[head](x) for head in _HEADS], dim=1)).chunk(2, dim=1)
        mean, log_variance = (
            self.joined[head](self._convolved(part, generator)) + F.leaky_relu(self.own[head](x))
            for head, part in zip(_HEADS, gathered, strict=True)
        )
        return Posterior(mean, log_variance, present)

    def _convolved(self, gathered: Nodes, generator: torch.Generator | None) -> Nodes:
        unit = unit_vectors(gathered)
        return F.leaky_relu(unit if generator is None else dropout(unit, self.dropout, generator))
