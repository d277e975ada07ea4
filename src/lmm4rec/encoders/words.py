"""Words: text vectors from the word counts of the catalog."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item, Modality, PositiveInt
from lmm4rec.encoders.base import Encoder, TextTemplate
from lmm4rec.nn.inputs import pad_tokens, text_of

__all__ = ["Words"]

_WORD = re.compile(r"\w+")


class Words(Encoder):
    """Latent semantic analysis of hashed TF-IDF (Deerwester et al. 1990): a text baseline without any weights.

    Words and pairs of neighboring words fall into `buckets` by a stable hash; counts are damped (1 + log), weighted by
    log((1 + N) / (1 + df)) + 1, L2-normalized and projected on the `dim` strongest directions of the catalog, then
    L2-normalized again. The catalog's frequencies and directions are learned by `learn_catalog`, from texts alone.
    """

    has_weights = False
    about: ClassVar = {"gives": "text; dim wide", "weights": "none: it counts the words of the catalog"}

    weights: Tensor
    directions: Tensor

    def __init__(
        self,
        *,
        text: TextTemplate = "{title}. {description}",
        dim: Annotated[PositiveInt, Doc("Width of the text vectors.")] = 128,
        buckets: Annotated[PositiveInt, Doc("Buckets into which terms are hashed.")] = 32768,
    ) -> None:
        super().__init__()
        self.text, self.buckets = text, buckets
        self.dims = {"text": dim}
        self.register_buffer("weights", torch.zeros(buckets))
        self.register_buffer("directions", torch.zeros(buckets, dim))

    def learn_catalog(self, items: Sequence[Item]) -> None:
        """Learn word weights and directions from the texts of the items."""
        rows = [self._hash(self.item_text(item)) for item in items]
        lengths = [len(row) for row in rows]
        columns = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64, count=sum(lengths))
        shape = (len(rows), self.buckets)
        counts = sp.csr_array((np.ones(len(columns)), (np.repeat(np.arange(len(rows)), lengths), columns)), shape=shape)
        counts.sum_duplicates()
        frequency = np.bincount(counts.indices, minlength=self.buckets)
        weights = np.where(frequency > 0, np.log((1 + len(rows)) / (1 + frequency)) + 1, 0.0)
        counts.data = 1 + np.log(counts.data)
        table = counts.multiply(weights[None, :]).tocsr()
        norms = np.sqrt(table.multiply(table).sum(axis=1))
        table = sp.diags_array(1 / np.maximum(norms, 1e-12)) @ table
        self.weights = torch.from_numpy(weights).float()
        self.directions = self._strongest(table)

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The buckets of the items' words and pairs of words."""
        rows = [self._hash(self.item_text(item)) for item in items]
        ids, mask = pad_tokens(rows, 0)
        return Inputs(text_ids=ids, text_mask=mask)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the texts."""
        ids, mask = text_of(inputs)
        if not self.weights.any():
            raise ConfigError("the encoder 'words' has no vocabulary yet: call learn_catalog with the items first")
        counts = torch.zeros(len(ids), self.buckets, device=self.weights.device)
        counts.scatter_add_(1, ids, mask.float())
        damped = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0.0) * self.weights
        return {"text": F.normalize(F.normalize(damped, dim=1) @ self.directions, dim=1)}

    def settings(self) -> dict[str, object]:
        """Template and sizes; the learned frequencies and directions count as weights."""
        return {"text": self.text, "dim": self.dims["text"], "buckets": self.buckets, "version": 1}

    def _hash(self, text: str) -> list[int]:
        words = _WORD.findall(text.lower())
        pairs = [f"{first} {second}" for first, second in itertools.pairwise(words)]
        return [zlib.crc32(part.encode()) % self.buckets for part in (*words, *pairs)]

    def _strongest(self, table: sp.csr_array) -> Float[Tensor, "buckets dim"]:
        """The right singular vectors of the largest singular values; columns of zeros where there are fewer."""
        # a word of one item relates no items
        used = np.flatnonzero(np.bincount(table.indices, minlength=self.buckets) >= 2)
        dim = self.dims["text"]
        rank = min(dim, table.shape[0], len(used))
        if rank < 1:
            raise ConfigError(f"the encoder 'words' finds no word that two of the {table.shape[0]} items share")
        directions = torch.zeros(self.buckets, dim)
        directions[used, :rank] = torch.from_numpy(_right_singular_vectors(table[:, used], rank)).float()
        return directions


def _right_singular_vectors(
    matrix: sp.csr_array, rank: int, *, spare: int = 10, rounds: int = 4
) -> Float64[np.ndarray, "columns rank"]:
    """The first right singular vectors by randomized subspace iteration (Halko et al. 2011, arXiv 0909.4061, 4.4)."""
    columns = matrix.shape[1]
    start = np.random.default_rng(0).standard_normal((columns, min(rank + spare, *matrix.shape)))
    basis = np.linalg.qr(matrix @ start).Q
    for _ in range(rounds):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis).Q).Q
    vectors = np.linalg.svd(basis.T @ matrix, full_matrices=False).Vh[:rank]
    # a singular vector's sign is arbitrary: the largest entry is made positive
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    return (vectors * np.where(largest < 0, -1.0, 1.0)).T
