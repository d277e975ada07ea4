"""BEiT-3 and VLMo as encoders: what comes out for what is given, words, tiny models, conf files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lmm4rec
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.data.sources.toyshop import pretraining_catalog
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.vlmo import Vlmo
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.conf.spec import Spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.features.extract import extract
from lmm4rec.features.store import FeatureStore
from lmm4rec.training.finetuning import fit_pairs

pytest.importorskip("sentencepiece")
pytest.importorskip("tokenizers")

TEXTS = ["a red mug of steel", "the blue lamp", "a red lamp of oak"]
KINDS = {"beit3": Beit3, "vlmo": Vlmo}
ALL = "image+text+fused"


class Drawn:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 255, (40, 50, 3), dtype=np.uint8))

    def digest(self) -> str:
        return str(self.seed)


ITEMS = [Item(str(row), {"title": text}, Drawn(row)) for row, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("tiny")
    for name, kind in KINDS.items():
        kind.write_tiny(root / name, TEXTS)
    return {name: str(root / name) for name in KINDS}


def load(folders: dict[str, str], name: str, **options: Any) -> Any:
    return lmm4rec.load_encoder(name, checkpoint=folders[name], text="{title}", **options).eval()


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_what_the_inputs_lack_is_left_out(folders: dict[str, str], name: str) -> None:
    encoder = load(folders, name, outputs=ALL)
    whole = encoder.prepare(ITEMS)
    words, image = whole._replace(pixels=None, has_image=None), Inputs(whole.pixels)
    with torch.inference_mode():
        everything = encoder(whole)
        assert set(everything) == {"image", "text", "fused"}
        for inputs, modality in ((words, "text"), (image, "image")):
            alone = encoder(inputs)
            assert set(alone) == set(encoder.present(inputs)) == {modality}
            torch.testing.assert_close(alone[modality], everything[modality])
    with pytest.raises(ConfigError, match="gives image, text, fused, for which the inputs have too little: nothing"):
        encoder(Inputs())
    with pytest.raises(ConfigError, match="needs text_ids and text_mask"):
        encoder(Inputs(text_ids=whole.text_ids))


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_a_fused_vector_reads_image_and_text(folders: dict[str, str], name: str, tmp_path: Path) -> None:
    encoder = load(folders, name, outputs="fused")
    items = [ITEMS[0], Item("no image", ITEMS[0].fields), Item("no words", {"title": ""}, Drawn(0))]
    inputs = encoder.prepare(items)
    assert encoder.present(inputs)["fused"].tolist() == [True, False, False]
    with torch.inference_mode():
        vectors = encoder(inputs)["fused"]
    assert vectors.shape == (3, encoder.dims["fused"])
    assert vectors.isfinite().all()
    assert encoder.item_digest(ITEMS[0]) != encoder.item_digest(Item("0", ITEMS[0].fields, Drawn(9)))
    assert encoder.item_digest(ITEMS[0]) != encoder.item_digest(Item("0", {"title": "other"}, Drawn(0)))
    features = extract(encoder, pretraining_catalog(seed=0, items=6), store=FeatureStore(tmp_path)).features
    assert features["fused"].shape == (6, encoder.dims["fused"])


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_outputs_of_one_side_read_that_side_alone(folders: dict[str, str], name: str) -> None:
    both = load(folders, name)
    for modality in ("image", "text"):
        encoder = load(folders, name, outputs=modality)
        inputs = encoder.prepare(ITEMS)
        assert (inputs.pixels is None) == (modality == "text")
        assert (inputs.text_ids is None) == (modality == "image")
        with torch.inference_mode():
            torch.testing.assert_close(encoder(inputs)[modality], both(both.prepare(ITEMS))[modality])


@pytest.mark.parametrize("name", KINDS)
def test_words_are_cut_by_tokens_and_keep_their_end(folders: dict[str, str], name: str) -> None:
    encoder = load(folders, name, text_len=6)
    long, short = Item("1", {"title": "lamp " * 30}), Item("2", {"title": "lamp"})
    inputs = encoder.prepare([long, short, Item("3", {"title": ""})])
    end, pad = encoder.tokenizer.end, encoder.tokenizer.pad
    assert inputs.text_ids.shape == (3, 6)
    assert inputs.text_ids[0, 0] == encoder.tokenizer.start
    assert inputs.text_ids[0, -1] == end
    lengths = inputs.text_mask.sum(1)
    assert lengths[0] == 6
    assert inputs.text_ids[1, lengths[1] - 1] == end
    assert (inputs.text_ids[1, lengths[1] :] == pad).all()
    assert lengths[2] == 0


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_words_without_a_vocabulary_say_what_to_give(folders: dict[str, str], name: str, tmp_path: Path) -> None:
    weights = tmp_path / "alone.safetensors"
    weights.write_bytes((Path(folders[name]) / "model.safetensors").read_bytes())
    encoder = lmm4rec.load_encoder(name, checkpoint=str(weights), text="{title}", heads=3)
    with torch.inference_mode():
        inputs = load(folders, name).prepare(ITEMS)
        torch.testing.assert_close(encoder.eval()(inputs)["text"], load(folders, name)(inputs)["text"])
    with pytest.raises(ConfigError, match="put it beside the checkpoint, or give"):
        encoder.prepare(ITEMS)


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "texts", [[], [""], ["x"], ["über ナイキ ½", *TEXTS], [f"thing {n} of {n % 7}" for n in range(500)]]
)
def test_a_tiny_model_of_any_texts_is_the_same_each_time(tmp_path: Path, name: str, texts: list[str]) -> None:
    before = torch.get_rng_state()
    for folder in ("first", "second"):
        KINDS[name].write_tiny(tmp_path / folder, texts)
    assert torch.equal(torch.get_rng_state(), before)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    KINDS[name].write_tiny(tmp_path / "third", texts, seed=1)
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("first", "third")]
    assert weights[0] != weights[1]
    assert KINDS[name].from_pretrained(tmp_path / "first").modalities == ("image", "text")
    encoder = lmm4rec.load_encoder(name, checkpoint=str(tmp_path / "first"), text="{title}").eval()
    with torch.inference_mode():
        assert encoder(encoder.prepare(ITEMS))["text"].isfinite().all()
    unknown = 3 if name == "beit3" else 1
    assert unknown not in encoder.tokenizer(["Plain ASCII text, 24% (new)!"], 40)[0]


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_the_fingerprint_knows_settings_and_vocabulary(folders: dict[str, str], name: str, tmp_path: Path) -> None:
    encoder = load(folders, name)
    others = [load(folders, name, **change) for change in ({"outputs": "image"}, {"text_len": 7}, {"image_size": 32})]
    KINDS[name].write_tiny(tmp_path, [*TEXTS, "a green chair and a green chair and a green chair"])
    parameter = {"beit3": "tokenizer", "vlmo": "vocabulary"}[name]
    vocabulary = {"beit3": "beit3.spm", "vlmo": "vocab.txt"}[name]
    others.append(load(folders, name, **{parameter: str(tmp_path / vocabulary)}))
    assert len({other.fingerprint() for other in [encoder, *others]}) == 5
    assert load(folders, name, drop_path=0.1, checkpointing=True).fingerprint() == encoder.fingerprint()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_tiny_model_is_tuned_on_pairs(folders: dict[str, str], name: str) -> None:
    encoder = load(folders, name, drop_path=0.1)
    pairs = [
        Item(item.id, {"title": item.fields["title"]}, item.image) for item in pretraining_catalog(seed=3, items=48)
    ]
    scale = encoder.logit_scale.item()
    options: dict[str, Any] = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-3, "patience": 0}
    options |= {"precision": "float32", "vl_weight": 0.0, "matching_weight": 0.0}
    rows = fit_pairs(encoder, [item for item in pairs if item.image is not None], None, **options).rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert encoder.logit_scale.item() != scale


def test_the_variants_of_vlmo_differ_and_train_their_own_scale(folders: dict[str, str]) -> None:
    own, both = load(folders, "vlmo"), load(folders, "vlmo", variant="vl")
    with torch.no_grad():
        both.model.logit_vl_scale += 1
    assert both.logit_scale.item() == pytest.approx(own.logit_scale.item() + 1)
    inputs = own.prepare(ITEMS)
    with torch.inference_mode():
        assert not torch.allclose(own(inputs)["image"], both(inputs)["image"], atol=1e-3)
    assert own.fingerprint() != both.fingerprint()


@pytest.mark.parametrize("name", KINDS)
def test_a_conf_file_names_it(folders: dict[str, str], name: str) -> None:
    catalog = pretraining_catalog(seed=0, items=4)
    tables = {
        "data": {"name": "toyshop"},
        "encoder": {"name": name, "checkpoint": folders[name], "outputs": ALL},
        "recommender": {"name": "vbpr"},
    }
    plan = make_plan(Spec(name, name, tables))
    encoder = make_encoder(plan.encoder.table, catalog)
    assert encoder.modalities == ("image", "text", "fused")
