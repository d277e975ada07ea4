"""Contrastive tuning: it aligns pictures with their words, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.toyshop.world import make_catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.dual import Dual
from lmm4rec.evaluation.alignment import retrieval_recall
from lmm4rec.experiments import pretrained
from lmm4rec.experiments.plan import make_encoder
from lmm4rec.nn.losses import contrastive
from lmm4rec.training.contrastive import fit_pairs

OPTIONS: dict[str, Any] = {
    "epochs": 6, "batch_size": 32, "learning_rate": 1e-3, "patience": 0, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return make_catalog(seed=3, items=160)


@pytest.fixture
def clip(catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clip:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    return Clip(checkpoint=str(pretrained.tiny_encoder(Clip, catalog, text="{title}. {description}")))


def test_retrieval_recall_by_hand() -> None:
    """Pictures 0 and 1 find their words first; picture 2 finds those of 0 before its own, and its words likewise."""
    text = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.2]]), dim=1)
    image = F.normalize(torch.tensor([[1.0, 0.0], [0.1, 1.0], [1.0, 0.3]]), dim=1)
    recall = retrieval_recall(image, text, ks=(1, 2, 3))
    # ranks of image -> text: 0, 0, 1; of text -> image: 0, 0, 1
    assert recall == {
        "retrieval_recall@1": pytest.approx(4 / 6),
        "retrieval_recall@2": pytest.approx(1.0),
        "retrieval_recall@3": pytest.approx(1.0),
    }


def found(clip: Clip, pairs: list[Item]) -> float:
    with torch.inference_mode():
        vectors = clip.eval()(clip.prepare(pairs))
    return retrieval_recall(vectors["image"], vectors["text"])["retrieval_recall@5"]


def test_tuning_aligns_pictures_with_their_words(clip: Clip, catalog: Catalog) -> None:
    pairs = [item for item in catalog if item.picture is not None]
    before, scale = found(clip, pairs), clip.logit_scale.item()
    history = fit_pairs(clip, pairs, None, False, **OPTIONS | {"epochs": 20})
    assert history.rows[-1]["loss"] < 0.5 * history.rows[0]["loss"]
    chance = 5 / len(pairs)
    assert before < 3 * chance
    # machines round differently and the best of 20 epochs is chosen by 16 held-out pairs: 0.3 to 0.8 were seen
    assert found(clip, pairs) > 5 * chance
    assert clip.logit_scale.item() != scale


def test_the_loss_of_equal_vectors_is_the_log_of_the_batch() -> None:
    same = F.normalize(torch.ones(8, 4), dim=1)
    assert float(contrastive(same, same, torch.tensor(10.0))) == pytest.approx(torch.tensor(8.0).log().item())


def test_items_without_picture_or_words_are_left_out(clip: Clip, catalog: Catalog) -> None:
    lonely = [Item("1", catalog[0].fields), Item("2", {"title": "", "description": ""}, catalog[1].picture)]
    with pytest.raises(TrainingError, match="at least 4 items with picture and words, got 1 of 3"):
        fit_pairs(clip, [*lonely, catalog[2]], None, False)


def test_an_encoder_without_a_joint_space_is_refused(catalog: Catalog) -> None:
    with pytest.raises(TrainingError, match="Color gives image and cannot be tuned"):
        fit_pairs(Color(), list(catalog), None, False)


@pytest.mark.parametrize("kind", [Clip, Dual])
def test_a_tuned_encoder_is_found_again(
    kind: type[Clip | Dual], catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    template = "{title}. {description}"

    def untouched() -> Encoder:
        return kind(checkpoint=str(pretrained.tiny_encoder(kind, catalog, text=template)))

    first = pretrained.fine_tuned(untouched(), catalog, OPTIONS | {"epochs": 2}, shown=False)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(pretrained, "fit_pairs", never)
    again = pretrained.fine_tuned(untouched(), catalog, OPTIONS | {"epochs": 2}, shown=False)
    assert again.fingerprint() == first.fingerprint() != untouched().fingerprint()
    assert first.logit_scale.item() != untouched().logit_scale.item()
    with torch.inference_mode():
        vectors = again(again.prepare(catalog[:4]))
    assert set(vectors) == {"image", "text"}
    assert isinstance(again.prepare(catalog[:1]), Inputs)
    folders = {path.name.rsplit("-", 1)[0] for path in (tmp_path / "cache" / "encoders").iterdir()}
    assert folders == {f"tiny-{kind.__name__.lower()}", "tuned"}


@pytest.mark.parametrize("name", ["clip", "dual"])
def test_a_conf_names_the_tiny_and_the_toyshop_checkpoint(
    name: str, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "tiny" has the catalog's vocabulary; "toyshop" is that of the second catalog, tuned as the options say."""
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained, "_TOYSHOP_ITEMS", 40)
    monkeypatch.setattr(pretrained, "_TOYSHOP_TRAINING", OPTIONS | {"epochs": 1})
    table = {"name": name, "text": "{title}", "outputs": "text"}
    tiny, toyshop = (
        make_encoder(table | {"checkpoint": checkpoint}, catalog, shown=False) for checkpoint in ("tiny", "toyshop")
    )
    assert tiny.modalities == toyshop.modalities == ("text",)
    assert tiny.fingerprint() != toyshop.fingerprint()
    assert make_encoder(table | {"checkpoint": "toyshop"}, catalog).fingerprint() == toyshop.fingerprint()
