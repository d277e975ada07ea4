"""Networks from the vectors of a sequence's items to a vector of the user after each of them, and their scorer.

Sequences are padded behind their end. Nothing that comes later counts at a place, so neither does the padding: no mask
but the causal one is needed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.sequences import Sequences
from lmm4rec.core.types import Embeddings
from lmm4rec.nn.graph import dropout
from lmm4rec.nn.projections import Affine, xavier_weight

_USERS = 1024  # whose vectors are computed at once


class SequenceNetwork(nn.Module, ABC):
    """A network that reads at most `length` items, in the order of time."""

    kind: ClassVar[str]
    """The name under which a bundle stores it."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    @abstractmethod
    def forward(
        self,
        items: Float[Tensor, "batch steps dim"],
        lengths: Int[Tensor, " batch"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch steps dim"]:
        """The user's vector after each item; with a `generator`, in training, dropout is applied."""

    @abstractmethod
    def settings(self) -> Mapping[str, int]:
        """The arguments of the constructor, with which it can be built again."""


class AttentionNetwork(SequenceNetwork):
    """Transformer blocks with causal attention (SASRec, arXiv 1808.09781): see `recommenders.sasrec`."""

    kind = "attention"

    def __init__(
        self, dim: int, length: int, layers: int, heads: int, share: float, generator: torch.Generator
    ) -> None:
        """`share` is that of dropout."""
        super().__init__(length)
        self.share = share
        self.positions = nn.Parameter(torch.randn(length, dim, generator=generator) * 0.02)  # row 0: of the latest item
        self.blocks = nn.ModuleList(_Block(dim, heads, share, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.heads = heads

    def forward(
        self,
        items: Float[Tensor, "batch steps dim"],
        lengths: Int[Tensor, " batch"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch steps dim"]:
        """The user's vector after each item."""
        steps = torch.arange(items.shape[1], device=items.device)
        age = (lengths[:, None] - 1 - steps).clamp(min=0)
        x = _dropout(items * items.shape[2] ** 0.5 + self.positions[age], self.share, generator)
        for block in self.blocks:
            x = block(x, generator)
        normed: Tensor = self.norm(x)
        return normed

    def settings(self) -> Mapping[str, int]:
        """The arguments but for dropout."""
        length, dim = self.positions.shape
        return {"dim": dim, "length": length, "layers": len(self.blocks), "heads": self.heads}


class _Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), with dropout on both sums' right sides."""

    def __init__(self, dim: int, heads: int, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.before_attention, self.before_feed_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        thirds = [xavier_weight(dim, dim, generator).detach() for _ in range(3)]
        self.query_key_value = nn.Parameter(torch.cat(thirds, dim=1))
        self.inner, self.outer = Affine(dim, dim, generator), Affine(dim, dim, generator)

    def forward(
        self, x: Float[Tensor, "batch steps dim"], generator: torch.Generator | None
    ) -> Float[Tensor, "batch steps dim"]:
        """The states after the block."""
        batch, steps, dim = x.shape
        joint = (self.before_attention(x) @ self.query_key_value).view(batch, steps, 3, self.heads, dim // self.heads)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + _dropout(attended.transpose(1, 2).reshape(x.shape), self.share, generator)
        inner = _dropout(F.relu(self.inner(self.before_feed_forward(x))), self.share, generator)
        return x + _dropout(self.outer(inner), self.share, generator)


class RecurrentNetwork(SequenceNetwork):
    """Gated recurrent units and a linear map to the items' width (GRU4Rec, arXiv 1511.06939)."""

    kind = "recurrent"

    def __init__(
        self, dim: int, length: int, layers: int, hidden: int, share: float, generator: torch.Generator
    ) -> None:
        """`share` is that of dropout, on the items and on what comes out."""
        super().__init__(length)
        self.share = share
        self.units = nn.GRU(dim, hidden, num_layers=layers, batch_first=True, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for weight in self.units.parameters():
                weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * hidden**-0.5)
        self.outer = Affine(hidden, dim, generator)

    def forward(
        self,
        items: Float[Tensor, "batch steps dim"],
        lengths: Int[Tensor, " batch"],
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch steps dim"]:
        """The user's vector after each item."""
        states, _ = self.units(_dropout(items, self.share, generator))
        vectors: Tensor = self.outer(_dropout(states, self.share, generator))
        return vectors

    def settings(self) -> Mapping[str, int]:
        """The arguments but for dropout."""
        units = self.units
        sizes = {"dim": units.input_size, "layers": units.num_layers, "hidden": units.hidden_size}
        return {**sizes, "length": self.length}


def network_of(kind: str, settings: Mapping[str, int]) -> SequenceNetwork:
    """A network of a kind, whose weights are to be loaded.

    Raises:
        KeyError: the kind is unknown.
    """
    kinds: Mapping[str, type[AttentionNetwork] | type[RecurrentNetwork]]
    kinds = {one.kind: one for one in (AttentionNetwork, RecurrentNetwork)}
    return kinds[kind](share=0.0, generator=torch.Generator(), **settings)


@dataclass(frozen=True)
class SequenceEmbeddings(Embeddings):
    """The vectors of items, and those of users, which a network reads from their sequences of item vectors.

    A user without items has a vector of zeros: all items score the same.
    """

    network: SequenceNetwork = field(kw_only=True)

    @classmethod
    def of(
        cls,
        network: SequenceNetwork,
        items: Float[Tensor, "items dim"],
        users: Sequences,
        parts: Mapping[str, slice],
    ) -> SequenceEmbeddings:
        """The vectors of users with these sequences."""
        return cls(_user_vectors(network, items, users), items, parts=parts, network=network)

    def of_sequences(self, sequences: Sequences) -> SequenceEmbeddings:
        """The same items and network for users with these sequences."""
        return replace(self, users=_user_vectors(self.network, self.items, sequences))


@torch.no_grad()
def _user_vectors(
    network: SequenceNetwork, items: Float[Tensor, "items dim"], sequences: Sequences
) -> Float[Tensor, "users dim"]:
    blocks = [items.new_zeros(0, items.shape[1])]
    for start in range(0, len(sequences), _USERS):
        rows, lengths = sequences.latest(network.length, slice(start, start + _USERS))
        rows, lengths = rows.to(items.device), lengths.to(items.device)
        vectors = network(items[rows.clamp(min=0)], lengths)
        last = vectors[torch.arange(len(rows), device=items.device), (lengths - 1).clamp(min=0)]
        blocks.append(last * (lengths > 0)[:, None])
    return torch.cat(blocks)


def _dropout(x: Float[Tensor, "*shape"], share: float, generator: torch.Generator | None) -> Float[Tensor, "*shape"]:
    return x if generator is None or not share else dropout(x, share, generator, of_batch=True)
