"""Exported vectors and weights give the scores of the bundle again, read by tools that know nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.neighborhoods import UserNeighbors
from lmm4rec.serving.bundle import Bundle

USERS, ITEMS = [f"u{i}" for i in range(12)], [f"i{i}" for i in range(40)]
RNG = np.random.default_rng(0)
SEEN = RNG.random((12, 40)) < 0.2
LOG = Interactions(*(column.astype(np.int32) for column in np.nonzero(SEEN)))
PARTS = {"id": slice(0, 6), "bias": slice(6, 7)}


def bundle(scorer: Scorer) -> Bundle:
    one = Bundle(
        scorer,
        Vocabulary(USERS, kind="user"),
        Vocabulary(ITEMS),
        [f"the {item}" for item in ITEMS],
        LOG,
        {"model": "M"},
    )
    one.remove_items(["i3"])
    return one


def embeddings() -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(12, 7, generator=generator), torch.randn(40, 7, generator=generator)
    users[:, 6] = 1
    return Embeddings(users, items, parts=PARTS)


def neighbors(*, dense: bool) -> Neighbors:
    weights = torch.from_numpy(RNG.random((40, 40)).astype(np.float32) * (RNG.random((40, 40)) < 0.3))
    seen = torch.from_numpy(SEEN.astype(np.float32)).to_sparse_csr()
    return Neighbors(seen, weights if dense else weights.to_sparse_csr())


def test_vectors_give_the_lists_of_the_bundle(tmp_path: Path) -> None:
    one = bundle(embeddings())
    facts = one.export_vectors(tmp_path / "out")
    assert facts == json.loads((tmp_path / "out/vectors.json").read_text())
    assert (facts["items"], facts["dim"], facts["columns"]) == (39, 7, {"id": [0, 6], "bias": [6, 7]})
    users, items = (pl.read_parquet(tmp_path / f"out/{name}.parquet") for name in ("users", "items"))
    assert (users["user"].to_list(), items.columns) == (USERS, ["item", "title", "vector"])
    assert items["item"].to_list() == [item for item in ITEMS if item != "i3"]
    assert items["title"][3] == "the i4"
    scores = users["vector"].to_numpy() @ items["vector"].to_numpy().T
    for user, best in one.recommend(USERS, 5, exclude_seen=False).items():
        row = scores[USERS.index(user)]
        assert [item.item for item in best] == [items["item"][int(at)] for at in np.argsort(-row)[:5]]
        assert [item.score for item in best] == pytest.approx(np.sort(row)[::-1][:5].tolist(), abs=1e-5)


@pytest.mark.parametrize("index", ["exact", "hnsw"])
def test_a_faiss_index_answers_with_rows_of_the_items(tmp_path: Path, index: str) -> None:
    faiss = pytest.importorskip("faiss")
    one = bundle(embeddings())
    one.export_vectors(tmp_path, "faiss", index=index)  # type: ignore[arg-type]
    ids = pl.read_parquet(tmp_path / "items.parquet")["item"]
    vectors = pl.read_parquet(tmp_path / "users.parquet")["vector"].to_numpy()
    rows = faiss.read_index(str(tmp_path / "items.faiss")).search(np.ascontiguousarray(vectors), 5)[1]
    lists = one.recommend(USERS, 5, exclude_seen=False)
    assert [[ids[int(at)] for at in row] for row in rows] == [[item.item for item in lists[user]] for user in USERS]


@pytest.mark.parametrize("dense", [True, False])
def test_weights_between_items_give_the_scores(tmp_path: Path, dense: bool) -> None:
    one = bundle(neighbors(dense=dense))
    facts = one.export_vectors(tmp_path / "out", "weights")
    weights = pl.read_parquet(tmp_path / "out/weights.parquet")
    assert (weights.height, weights.columns) == (facts["weights"], ["item", "history_item", "weight"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["vectors.json", "weights.parquet"]
    history = pl.DataFrame({"user": [USERS[i] for i in LOG.users], "history_item": [ITEMS[i] for i in LOG.items]})
    summed = history.join(weights, on="history_item").group_by("user", "item").agg(pl.col("weight").sum())
    scores = {(user, item): score for user, item, score in summed.iter_rows()}
    for user, best in one.recommend(USERS, 39, exclude_seen=False).items():
        assert "i3" not in {item.item for item in best}
        for item in best:
            assert item.score == pytest.approx(scores.get((user, item.item), 0.0), abs=1e-5)


def test_what_a_model_lacks_is_said_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    one, other = bundle(embeddings()), bundle(neighbors(dense=True))
    users = torch.eye(12).to_sparse_csr()
    third = bundle(UserNeighbors(other.scorer.seen, other.scorer.similarity, users, torch.ones(40), 3, 0.0))
    for of, form, words in (
        (one, "weights", 'M has no weights between items: its vectors are exported as "parquet" or "faiss"'),
        (other, "faiss", 'M has no vectors of users and items.*: its weights between items are exported as "weights"'),
        (third, "parquet", r"no vectors.*export lists instead \(lmm4rec recommend --all\)"),
        (third, "weights", "no weights between items.*they depend on all users"),
    ):
        with pytest.raises(ConfigError, match=words):
            of.export_vectors(tmp_path / "out", form)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="full holds something else than exported vectors"):
        one.export_vectors(tmp_path / "full")
    one.export_vectors(tmp_path / "again")
    other.export_vectors(tmp_path / "again", "weights")  # takes the place of the vectors
    assert not (tmp_path / "again/users.parquet").exists()
