"""A bundle on disk is the old one or the new one, says what is wrong with it, and comes back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.coldstart.content_space import ContentSpace
from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.errors import CheckpointError, DataError
from lmm4rec.core.types import Embeddings, Item, Neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.serving import bundle_files
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.encoder_record import EncoderRecord
from lmm4rec.serving.rules import RuleSet

SEEN = Interactions(np.array([0, 1], np.int32), np.array([0, 2], np.int32), None, np.array([5, 7], np.int64))
TITLES = pl.DataFrame({"title": ["Cup", "Lamp", "Chair", ""]})


def bundle(scale: float = 1.0) -> Bundle:
    """Two users, four items; a new item's vector is its two features."""
    scorer = Embeddings(
        torch.eye(2), scale * torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 1.0], [0.0, -1.0]]),
        parts={"id": slice(0, 1), "text": slice(1, 2)},
    )  # fmt: skip
    return Bundle(
        scorer, Vocabulary("AB", kind="user"), Vocabulary("wxyz"), TITLES["title"].to_list(), SEEN, {"model": "m"},
        fields=TITLES, thumbnails={1: b"lamp"}, content_to_vectors=as_given(), features={"text": torch.eye(4)[:, :2]},
    )  # fmt: skip


def as_given() -> ContentToVectors:
    """Makes a unit vector of two features the item's vector."""
    content = ContentSpace({"text": torch.zeros(2)})
    return ContentToVectors(content, free=torch.arange(2), weights=torch.eye(2), offset=torch.zeros(2))


def new(id_: str, x: float, y: float) -> NewItem:
    return NewItem(id_, {"title": f"new {id_}"}, features={"text": torch.tensor([x, y])})


def test_added_and_removed_items_come_back(tmp_path: Path) -> None:
    """An id that was removed and taken anew is there once; rows of the removed stay out of every list."""
    first = bundle()
    first.add_items([new("n", 1.0, 0.0), new("o", 0.0, 1.0)])
    first.remove_items(["x", "n"])
    first.add_items([new("x", 0.6, 0.8)])
    first.save_pretrained(tmp_path)
    again = Bundle.from_pretrained(tmp_path)
    assert list(again.items) == ["w", "y", "z", "o", "x"]
    assert again.recommend("AB", k=9) == first.recommend("AB", k=9)
    assert again.recommend(["B"], k=3)["B"][0] == ("o", "new o", 1.0)
    assert (again.title("x"), again.fields("x")) == ("new x", {"title": "new x"})
    assert again.similar(["x"], k=9) == first.similar(["x"], k=9)
    assert again.explain("A", "x") == first.explain("A", "x")
    assert again.explain("A", "x").shares == pytest.approx({"text": 0.6, "new": 0.0})
    assert again.history("B") == [("y", "Chair", 7)]
    with pytest.raises(DataError, match="unknown item 'n'"):
        again.title("n")
    again.add_items([new("p", 1.0, 0.0)])
    assert again.recommend(["A"], k=1)["A"][0].item == "p"


def test_titles_of_added_items_are_shown_as_those_of_the_catalog() -> None:
    one, long = bundle(), "A mug\n" * 99
    one.add_items([NewItem("n", {"title": long}, features={"text": torch.tensor([1.0, 0.0])}), new("o", 1.0, 1.0)])
    assert one.title("n") == ("A mug " * 99)[:299] + "…"
    assert one.fields("n") == {"title": long}
    assert [one.item for one in one.recommend(["A"], where=["title~mug\na"])["A"]] == ["n"]


def test_neighbors_come_back_with_what_was_added(tmp_path: Path) -> None:
    seen = torch.tensor([[1.0, 0.0, 0.0]]).to_sparse_csr()
    similarity = torch.tensor([[0.0, 0.5, 0.0], [0.5, 0.0, 0.1], [0.0, 0.1, 0.0]]).to_sparse_csr()
    log = Interactions(np.array([0], np.int32), np.array([0], np.int32))
    first = Bundle(
        Neighbors(seen, similarity), Vocabulary("A", kind="user"), Vocabulary("xyz"), "XYZ", log, {},
        features={"text": torch.eye(3)},
        content_to_vectors=ContentToVectors(ContentSpace({"text": torch.zeros(3)}), neighbors=1, scale=2.0),
    )  # fmt: skip
    first.add_items([NewItem("n", features={"text": torch.tensor([0.8, 0.6, 0.0])})])
    first.save_pretrained(tmp_path)
    again = Bundle.from_pretrained(tmp_path)
    for one in (first, again):  # only its nearest item counts: 2 · 0.8 for x, and nothing for y
        assert [tuple(x) for x in one.recommend(["A"], k=2)["A"]] == [("n", "n", pytest.approx(1.6)), ("y", "Y", 0.5)]
        assert one.similar(["n"], k=1)["n"][0].item == "x"
        assert one.similar(["x"], k=2)["x"][0].item == "n"
        assert one.recommend_for(["n"], k=1)[0].item == "y"  # n stands for x


@pytest.mark.long
@pytest.mark.parametrize("step", range(7))
def test_a_kill_leaves_the_old_bundle(tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle().save_pretrained(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    placed, left = bundle_files._placed, [step]

    def killed(*arguments: object) -> str:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return placed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bundle_files, "_placed", killed)
    other = bundle(scale=2.0)
    other.remove_items(["z"])
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(tmp_path)
    assert Bundle.from_pretrained(tmp_path).recommend("AB") == bundle().recommend("AB")
    monkeypatch.setattr(bundle_files, "_placed", placed)
    bundle().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before  # what the killed one left is gone


def test_what_a_vector_loses_without_a_modality_is_its_share(tmp_path: Path) -> None:
    """Score 1 · 3 + 2 · 1 = 5; the image's part of the vector is (2, 0.5): 2 + 1 = 3, so 2 are the rest's."""
    scorer = Embeddings(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 1.0], [0.0, 1.0]]))
    log = Interactions(np.array([], np.int32), np.array([], np.int32))
    first = Bundle(
        scorer, Vocabulary("A", kind="user"), Vocabulary("xy"), "XY", log, {}, content_to_vectors=as_given(),
        lost={"image": torch.tensor([[2.0, 0.5], [0.0, 0.0]])},
    )  # fmt: skip
    first.add_items([NewItem("n", features={"text": torch.tensor([1.0, 0.0])})])
    first.save_pretrained(tmp_path)
    for one in (first, Bundle.from_pretrained(tmp_path)):
        assert one.explain("A", "x")[:2] == (5.0, {"rest": 2.0, "image": 3.0})
        assert one.explain("A", "n")[:2] == (1.0, {"text": 1.0, "new": 0.0})
    assert bundle().explain("A", "x").shares == {"id": 2.0, "text": 0.0}


def test_version_1_files_do_not_stay(tmp_path: Path) -> None:
    (tmp_path / "vectors.safetensors").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    bundle().save_pretrained(tmp_path)
    assert not (tmp_path / "vectors.safetensors").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_files_of_another_bundle_are_no_match(tmp_path: Path) -> None:
    """Whole files that do not belong together: the vectors of fewer items."""
    bundle().save_pretrained(tmp_path)
    facts = tmp_path / "bundle.json"
    facts.write_text(facts.read_text().replace('"kind": "embeddings"', '"kind": "neighbors"'))
    with pytest.raises(CheckpointError, match="is damaged"):
        Bundle.from_pretrained(tmp_path)
    facts.write_text("{")
    with pytest.raises(
        CheckpointError, match=r"damaged \(bundle.json is not readable JSON\); run the experiment again"
    ):
        Bundle.from_pretrained(tmp_path)


def test_a_bundle_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle().save_pretrained(tmp_path)

    def replaced(folder: Path, files: Mapping[str, str]) -> None:
        monkeypatch.undo()
        bundle(scale=2.0).save_pretrained(tmp_path)
        bundle_files._check_files(folder, files)

    monkeypatch.setattr(bundle_files, "_check_files", replaced)
    assert Bundle.load(tmp_path).recommend("A", k=9) == bundle(scale=2.0).recommend("A", k=9)


def test_the_card_names_data_metrics_and_terms(tmp_path: Path) -> None:
    facts = {"model": "VBPR", "data": {"name": "shop|x", "train": 1200}, "test": {"recall@20": 0.25}}
    scorer = Embeddings(torch.eye(2), torch.eye(2))
    log = Interactions(np.array([], np.int32), np.array([], np.int32))
    Bundle(scorer, Vocabulary("AB"), Vocabulary("xy"), "XY", log, facts).save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for told in (
        "# VBPR",
        r"| name | shop\|x |",
        "| train | 1,200 |",
        "| recall@20 | 0.2500 |",
        "takes none",
        "terms of",
    ):
        assert told in card


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    from lmm4rec.encoders.clip import Clip

    folder = tmp_path_factory.mktemp("clip")
    Clip.write_tiny(folder, ["a red cup", "a lamp", "a chair of oak"] * 20, vocabulary=300)
    return folder


@pytest.mark.long
def test_the_encoder_goes_along_or_is_named(tmp_path: Path, clip: Path) -> None:
    record = EncoderRecord("clip", {"checkpoint": str(clip), "text": "{title}"})
    made = record.build(list)
    inputs = made.prepare([Item("", {"title": title}) for title in TITLES["title"]])
    with torch.no_grad():
        text = made(inputs._replace(pixels=torch.zeros(4, 3, 64, 64)))["text"]
    text[3] = 0.0  # the last item has no words
    one = Bundle(
        Embeddings(torch.eye(2), torch.eye(4)[:, :2]), Vocabulary("AB"), Vocabulary("wxyz"), TITLES["title"].to_list(),
        SEEN, {}, fields=TITLES, features={"text": text}, encoder=record,
    )  # fmt: skip
    one.save_pretrained(tmp_path / "named")
    one.save_pretrained(tmp_path / "copied", copy_encoder=True)
    copied = Bundle.from_pretrained(tmp_path / "copied")
    copied.save_pretrained(tmp_path / "moved")  # a copy goes where its bundle goes
    moved, named = (Bundle.from_pretrained(tmp_path / name) for name in ("moved", "named"))
    for each in (one, copied, moved, named):
        (best, *_) = each.search("Lamp", k=3)
        assert (best.item, best.score) == ("x", pytest.approx(1.0, abs=1e-3))
        assert "z" not in [found.item for found in each.search("Lamp", k=4)]
    (weights,) = (tmp_path / "moved").glob("encoder-*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match=r"encoder-\w+/model.safetensors is not what was written"):
        Bundle.from_pretrained(tmp_path / "moved")


def test_an_encoder_that_has_changed_is_refused(clip: Path) -> None:
    features = {"text": torch.eye(4, 64)}
    record = EncoderRecord("clip", {"checkpoint": str(clip), "text": "{title}"})
    one = Bundle(
        Embeddings(torch.eye(2), torch.eye(4)[:, :2]), Vocabulary("AB"), Vocabulary("wxyz"), TITLES["title"].to_list(),
        SEEN, {}, fields=TITLES, features=features, encoder=record,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="gives other vectors than when this bundle was written"):
        one.search("Lamp")


def test_disliked_items_are_left_out_as_seen_ones_are(tmp_path: Path) -> None:
    ones = np.array([0, 1], np.int32)
    disliked = NegativeSignals(ones, np.array([1, 0], np.int32), ones.astype(np.int8), ("skip", "dislike"))
    scorer = Embeddings(torch.eye(2), torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 1.0], [0.0, -1.0]]))
    one = Bundle(scorer, Vocabulary("AB"), Vocabulary("wxyz"), "WXYZ", SEEN, {}, disliked=disliked)
    one.save_pretrained(tmp_path)
    again = Bundle.from_pretrained(tmp_path)
    for bundle_ in (one, again):
        lists = bundle_.recommend("AB", k=4)
        assert [[item.item for item in lists[user]] for user in "AB"] == [["y", "z"], ["x", "z"]]
        assert len(bundle_.recommend(["A"], k=4, exclude_seen=False)["A"]) == 4
        assert [item.item for item in bundle_.history("A")] == ["w"]
    assert again.disliked.counts == {"dislike": 1, "skip": 1}
    assert again.recommend_by_rules(["A"], 4, RuleSet())["A"].items == again.recommend(["A"], 4)["A"]
