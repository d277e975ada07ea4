"""What words and images find, hand-computed; approximate search beside exact."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from lmm4rec.core.errors import ConfigError, LMM4RecError, MissingExtraError
from lmm4rec.core.types import Embeddings
from lmm4rec.encoders.words import Words
from lmm4rec.evaluation.ranking import restrict, top_k
from lmm4rec.serving import search
from lmm4rec.serving.content_encoder import ContentEncoder
from lmm4rec.serving.index import Index


def test_one_comparison_is_the_cosine() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.0, 1.0]])
    found = search.relevance({"text": torch.tensor([2.0, 0.0])}, {"text": rows, "image": rows}, joint=False)
    assert found.tolist() == pytest.approx([1.0, 0.6, -torch.inf, 0.0])


def test_in_a_joint_space_both_sides_count_alike() -> None:
    """Cosines to images 1, 0 and to words .9, .8, .8, each side standardized; the third has words alone."""
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    words = torch.tensor([[0.9, 0.19**0.5], [0.8, 0.6], [0.8, 0.6]])
    found = search.relevance({"text": torch.tensor([1.0, 0.0])}, {"image": images, "text": words}, joint=True)
    mean, deviation = np.mean([0.9, 0.8, 0.8]), np.std([0.9, 0.8, 0.8])
    said = [(value - mean) / deviation for value in (0.9, 0.8, 0.8)]
    assert found.tolist() == pytest.approx([(1 + said[0]) / 2, (-1 + said[1]) / 2, said[2]], abs=1e-4)


def test_a_user_reorders_the_results() -> None:
    """Only the ten most relevant take part: the one that the user's model ranks highest comes first."""
    relevance = torch.arange(20.0)
    scores = torch.zeros(20)
    scores[10], scores[0] = 5.0, 50.0
    found = search.personal_relevance(relevance, scores, k=1)
    assert int(found.argmax()) == 10
    assert (found[:10] == -torch.inf).all()


def test_nothing_to_compare_says_so() -> None:
    with pytest.raises(LMM4RecError, match="no vectors to compare image with"):
        search.relevance({"image": torch.ones(2)}, {"text": torch.ones(3, 2)}, joint=False)
    with pytest.raises(ConfigError, match="search needs a text"):
        search.query(ContentEncoder(Words()), None, None)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_an_index_finds_what_exact_search_finds(kind: str) -> None:
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(50, 16, generator=generator), torch.randn(3000, 16, generator=generator)
    index = Index.build(items[:2900], kind, effort={"hnsw": 128, "ivf": 60}[kind])  # type: ignore[arg-type]
    scorer = Embeddings(users, items)  # the last 100 came after the build
    rng = np.random.default_rng(0)
    seen = [np.sort(rng.choice(3000, 30, replace=False)).astype(np.int64) for _ in range(50)]
    for share in (None, 0.5, 0.03):
        chosen = None if share is None else torch.from_numpy(rng.random(3000) < share)
        exact = top_k(restrict(scorer, chosen), np.arange(50), 80)
        found = index.search(users, items, 20, chosen, seen)
        hits = []
        for user in range(50):
            truth = [(i, s) for i, s in zip(exact.items[user], exact.scores[user], strict=True) if i not in seen[user]]
            wanted = {int(item): score for item, score in truth[:20] if item >= 0}
            given = {int(i): s for i, s in zip(found.items[user], found.scores[user], strict=True) if i >= 0}
            assert not set(given) & set(seen[user].tolist())
            assert chosen is None or chosen[list(given)].all()
            assert list(given.values()) == sorted(given.values(), reverse=True)
            late = {item for item in wanted if item >= 2900}
            assert late <= set(given)  # new items are never missed
            hits.append(len(set(given) & set(wanted)) / len(wanted))
        assert np.mean(hits) == 1.0 if share == 0.03 else np.mean(hits) > 0.95


def test_few_candidates_pad_and_the_first_of_equals_comes_first() -> None:
    pytest.importorskip("faiss")
    items = torch.tensor([[1.0], [2.0], [2.0], [0.5]])
    index = Index.build(items, "hnsw")
    found = index.search(torch.ones(1, 1), items, 6, None, [np.array([0])])
    assert found.items.tolist() == [[1, 2, 3, -1, -1, -1]]
    assert found.scores[0, :3].tolist() == [2.0, 2.0, 0.5]


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"lmm4rec\[faiss\]"):
        Index.build(torch.ones(4, 2), "ivf")
