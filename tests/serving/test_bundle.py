"""What is damaged says so; external ids go in and out; likeness is hand-computed."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.errors import CheckpointError, DataError
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle


def bundle() -> Bundle:
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    items = torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 1.0], [0.0, -1.0]])
    seen = Interactions(np.array([0], np.int32), np.array([0], np.int32))
    titles = ("Cup", "Lamp", "Chair", "")
    return Bundle(
        Embeddings(users, items), Vocabulary("AB", kind="user"), Vocabulary("wxyz"), titles, seen, {"model": "m"}
    )


def test_recommend_ranks_by_product_and_leaves_out_what_was_seen() -> None:
    lists = bundle().recommend(["A", "B"], k=2)
    assert [(item.item, item.score) for item in lists["A"]] == [("x", 2.0), ("y", 0.0)]
    assert [(item.item, item.title) for item in lists["B"]] == [("x", "Lamp"), ("y", "Chair")]
    assert bundle().recommend(["A"], k=1, exclude_seen=False)["A"][0].item == "w"


def test_similar_is_the_cosine() -> None:
    near = bundle().similar(["x"], k=3)["x"]
    assert [item.item for item in near] == ["w", "y", "z"]
    assert [item.score for item in near] == pytest.approx([0.5**0.5, 0.5**0.5, -(0.5**0.5)])


def test_unknown_ids_are_named() -> None:
    with pytest.raises(DataError, match="unknown user 'C' among 2 users"):
        bundle().recommend(["C"])


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    bundle().save(tmp_path)
    again = Bundle.load(tmp_path)
    assert again.recommend(["A", "B"], k=4) == bundle().recommend(["A", "B"], k=4)
    assert again.facts["model"] == "m"


def test_no_pickle_is_written(tmp_path: Path) -> None:
    bundle().save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".parquet", ".safetensors"}


@pytest.mark.parametrize("stem", ["vectors", "users", "seen", "texts"])
def test_a_damaged_bundle_says_which_file(tmp_path: Path, stem: str) -> None:
    bundle().save(tmp_path)
    (path,) = tmp_path.glob(f"{stem}-*")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=rf"is damaged \({path.name} is not what was written"):
        Bundle.load(tmp_path)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"is damaged \({path.name} is missing"):
        Bundle.load(tmp_path)


def test_a_bundle_of_another_version_says_so(tmp_path: Path) -> None:
    bundle().save(tmp_path)
    facts = tmp_path / "bundle.json"
    facts.write_text(facts.read_text().replace('"version": 2', '"version": 99'))
    with pytest.raises(CheckpointError, match="version 99, this release reads 2: install a newer"):
        Bundle.load(tmp_path)
    facts.write_text('{"version": 1, "kind": "embeddings"}')
    with pytest.raises(CheckpointError, match="version 1, this release reads 2: run the experiment again"):
        Bundle.load(tmp_path)


def test_a_folder_without_a_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no bundle in"):
        Bundle.load(tmp_path)


def test_each_answer_is_of_one_moment() -> None:
    """While items come and go, everyone who asks sees a whole list and never a removed item after its end."""
    users, items = torch.eye(2), torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 1.0], [0.0, -1.0]])
    content_to_vectors = ContentToVectors(
        ContentSpace({"text": torch.zeros(2)}), free=torch.arange(2), weights=torch.eye(2), offset=torch.zeros(2)
    )
    one = Bundle(
        Embeddings(users, items), Vocabulary("AB", kind="user"), Vocabulary("wxyz"), "WXYZ",
        Interactions(np.array([0], np.int32), np.array([0], np.int32)), {}, features={"text": items},
        content_to_vectors=content_to_vectors,
    )  # fmt: skip
    wrong: list[object] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            for user, known in (("A", 3), ("B", 4)):
                found = [each.item for each in one.recommend([user], k=9)[user]]
                if len(found) - known not in (0, 2) or ("n" in found) != ("o" in found):
                    wrong.append(found)
            one.similar(["x"], k=9), one.recommend_for(["x"], k=9), one.explain("A", "x")

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(50):
        pair = [NewItem(name, features={"text": torch.tensor([0.6, 0.8])}) for name in "no"]
        one.add_items(pair)
        assert [each.item for each in one.recommend(["B"], k=1, only=["n"])["B"]] == ["n"]
        one.remove_items(["n", "o"])
    over.set()
    for asker in askers:
        asker.join()
    assert wrong == []
    assert list(one.items) == list("wxyz")
