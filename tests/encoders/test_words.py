"""Word vectors against TF-IDF written out by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.encoders.words import Words

TEXTS = ["Red mug of steel", "red mug, red lamp", "a lamp of steel", "мug 灯 a lamp", "灯 a lamp of steel"]


def items(texts: list[str]) -> list[Item]:
    return [Item(str(row), {"title": text}) for row, text in enumerate(texts)]


def tf_idf(texts: list[str]) -> torch.Tensor:
    """Unit rows of (1 + log count) (log((1 + N) / (1 + df)) + 1) of the words and pairs that two texts share."""
    parts = []
    for text in texts:
        words = text.lower().replace(",", "").split()
        parts.append(Counter([*words, *map(" ".join, itertools.pairwise(words))]))
    frequency = Counter(itertools.chain(*parts))
    shared = sorted(part for part, count in frequency.items() if count > 1)
    rows = [
        [(1 + math.log(row[part])) * (math.log((1 + len(texts)) / (1 + frequency[part])) + 1) if row[part] else 0.0
         for part in shared]
        for row in parts
    ]  # fmt: skip
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def encode(words: Words, texts: list[str]) -> torch.Tensor:
    return words(words.prepare(items(texts)))["text"]


def test_with_all_directions_likeness_is_that_of_tf_idf() -> None:
    words = Words(text="{title}", dim=16, buckets=1 << 20)
    words.learn_catalog(items(TEXTS))
    vectors, expected = encode(words, TEXTS), tf_idf(TEXTS)
    torch.testing.assert_close(vectors @ vectors.T, expected @ expected.T, atol=1e-5, rtol=1e-4)


def test_fewer_directions_are_the_best_ones() -> None:
    """The kept directions hold as much of the table as its truncated singular value decomposition (Eckart-Young)."""
    generator = torch.Generator().manual_seed(0)
    texts = [" ".join(f"w{n}" for n in torch.randint(30, (12,), generator=generator)) for _ in range(60)]
    words = Words(text="{title}", dim=5, buckets=1 << 16)
    words.learn_catalog(items(texts))
    directions = words.directions[words.directions.any(dim=1)]
    torch.testing.assert_close(directions.T @ directions, torch.eye(5), atol=1e-5, rtol=0)
    full = Words(text="{title}", dim=60, buckets=1 << 16)
    full.learn_catalog(items(texts))
    shared = full.directions.T @ words.directions  # the five lie in the span of the full decomposition's first five
    assert shared[:5].square().sum() > 0.99 * 5


def test_what_is_learned_is_part_of_the_fingerprint_and_repeats() -> None:
    def learned(texts: list[str]) -> str:
        words = Words(text="{title}", dim=4, buckets=512)
        words.learn_catalog(items(texts))
        return words.fingerprint()

    assert learned(TEXTS) == learned(TEXTS) != learned([*TEXTS, "one more red lamp"])


def test_nothing_to_learn_from_is_an_error_that_says_so() -> None:
    for texts in ([], ["", ""], ["red mug", "blue lamp"]):
        with pytest.raises(ConfigError, match=f"no word that two of the {len(texts)} items share"):
            Words(text="{title}").learn_catalog(items(texts))
    with pytest.raises(ConfigError, match="call learn_catalog"):
        encode(Words(text="{title}"), TEXTS)
