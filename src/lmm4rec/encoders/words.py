"""Words: text vectors from the word counts of the catalog."""

from __future__ import annotations

import itertools
import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import cache
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

_SPACELESS = (  # scripts without spaces between words: Chinese and Japanese; Thai, Lao, Burmese, Khmer and their kin
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U000323af"
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd-\u0ec6\u0edc-\u0edf"
    "\u1000-\u102a\u103f\u1050-\u1055\u1780-\u17b3\u17d7\u17dc\u1950-\u19ab\u1a20-\u1a54\ua000-\ua48c\ua9e0-\ua9ef\uaa60-\uaa7a"
)
_ASCII_WORD, _MARKS = re.compile(r"\w+"), ("Mn", "Mc")
_IDEOGRAPHS = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


class Words(Encoder):
    """Latent semantic analysis of hashed TF-IDF (Deerwester et al. 1990): a text baseline without any weights.

    Words and pairs of neighboring words fall into `buckets` by a stable hash; counts are damped (1 + log), weighted by
    log((1 + N) / (1 + df)) + 1, L2-normalized and projected on the `dim` strongest directions of the catalog, then
    L2-normalized again. The catalog's frequencies and directions are learned by `learn_catalog`, from texts alone.
    In scripts without spaces (Chinese, Japanese, Thai, ...) characters and their pairs take the place of words.
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
        return [zlib.crc32(part.encode()) % self.buckets for part in _terms(text)]

    def _strongest(self, table: sp.csr_array) -> Float[Tensor, "buckets dim"]:
        """The right singular vectors of the largest singular values; columns of zeros where there are fewer."""
        # a word of one item relates no items
        used = np.flatnonzero(np.bincount(table.indices, minlength=self.buckets) >= 2)
        dim = self.dims["text"]
        rank = min(dim, table.shape[0], len(used))
        if rank < 1:
            raise ConfigError(
                f"the encoder 'words' finds no word that two of the {table.shape[0]} items share, in the text "
                f"'{self.text}': name columns with more text, or another encoder"
            )
        directions = torch.zeros(self.buckets, dim)
        directions[used, :rank] = torch.from_numpy(_right_singular_vectors(table[:, used], rank)).float()
        return directions


def _terms(text: str) -> list[str]:
    """The words of a text and the pairs of neighboring ones, in lower case.

    In scripts without spaces a character counts as a word. A letter of theirs says too little alone: there only the
    pairs count, ideographs also alone, as does a letter that has no neighbor.
    """
    text = text.lower()
    if text.isascii():
        words = _ASCII_WORD.findall(text)
        return [*words, *_pairs(words)]
    pattern, spaceless = _patterns()
    found = list(pattern.finditer(unicodedata.normalize("NFC", text)))
    if not found:  # an emoji, a dash, a character that is not assigned
        return []
    words = [match.group() for match in found]
    joined = [first.end() == second.start() for first, second in itertools.pairwise(found)]
    beside = [left or right for left, right in zip([False, *joined], [*joined, False], strict=True)]
    alone = [
        word
        for word, has_neighbor in zip(words, beside, strict=True)
        if not has_neighbor or not spaceless.match(word) or _IDEOGRAPHS.match(word)
    ]
    return [*alone, *_pairs(words)]


def _pairs(words: list[str]) -> list[str]:
    return [f"{first} {second}" for first, second in itertools.pairwise(words)]


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of a word, and of one in a script without spaces: a letter with the marks that follow it.

    Marks (vowel signs of Hindi and Thai, tones, points of Hebrew and Arabic) belong to their word; Python's \\w ends
    there.
    """
    marks = "".join(letter for letter in map(chr, range(0x300, 0x1F000)) if unicodedata.category(letter) in _MARKS)
    marks = re.sub("[\ufe00-\ufe0f]", "", marks)  # variants of emoji
    letter = f"[{_SPACELESS}][{marks}]*"
    return re.compile(f"{letter}|(?:(?![{_SPACELESS}])\\w)(?:(?![{_SPACELESS}])[\\w{marks}])*"), re.compile(letter)


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
