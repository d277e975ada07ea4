"""`dual` against the forward pass of transformers' own models, each with the tokenizer and images of its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.dual import Dual

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

TEXTS = ["A red mug of steel.", "the Blue lamp", "one mug", "a red lamp of oak, " * 8]
TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
VISION = TOWER | {"image_size": 32, "patch_size": 8}
LENGTH = 16


@dataclass(frozen=True)
class Noise:
    """An image drawn from a seed."""

    seed: int

    def open(self) -> Image.Image:
        shape = (40 + self.seed, 60, 3)
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 255, shape, dtype=np.uint8))

    def digest(self) -> str:
        return str(self.seed)


ITEMS = [Item(str(n), {"title": text}, Noise(n)) for n, text in enumerate(TEXTS)]


def sentencepiece(folder: Path) -> Any:
    """SigLIP's own tokenizer class over pieces learned here; like the released one, padding is the end token."""
    library = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5), model_prefix=str(folder / "learned"), vocab_size=45, minloglevel=2,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, add_dummy_prefix=False,
    )  # fmt: skip
    return transformers.SiglipTokenizer(str(folder / "learned.model"), model_max_length=LENGTH)


def gemma(folder: Path, name: str = "GemmaTokenizer", side: str = "right") -> Any:
    """The byte-pair vocabulary of SigLIP 2's family, in lower case, with an end token."""
    tokenizer = getattr(transformers, name)(padding_side=side, model_max_length=LENGTH)
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *sorted(set("▁" + "".join(TEXTS).lower()) - {" "})]
    merges = [("r", "e"), ("re", "d"), ("m", "u"), ("mu", "g"), ("▁", "o")]
    vocabulary = {word: row for row, word in enumerate([*words, *map("".join, merges)])}
    tokenizer = getattr(transformers, name)(vocab=vocabulary, merges=merges, padding_side=side, model_max_length=LENGTH)
    tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


def xlm_roberta(folder: Path) -> Any:
    """XLM-R's class over pieces learned here: 0 starts, 1 pads, 2 ends, 3 is unknown."""
    learner = tokenizers.Tokenizer(tokenizers.models.Unigram())
    learner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    learner.train_from_iterator(TEXTS, trainer)
    pieces = [(learner.id_to_token(row), -float(row)) for row in range(learner.get_vocab_size())]
    return transformers.XLMRobertaTokenizer(vocab=pieces, model_max_length=LENGTH)


def bert(folder: Path) -> Any:
    letters = sorted(set("".join(TEXTS).lower()) - {" "})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "mug", "lamp", *letters]
    vocabulary = {word: row for row, word in enumerate([*words, *(f"##{letter}" for letter in letters)])}
    return transformers.BertTokenizer(vocab=vocabulary, model_max_length=LENGTH)


def siglip(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "bos_token_id": None}
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.SiglipConfig(text_config=TOWER | words | special, vision_config=VISION)
    return transformers.SiglipModel(config), transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})


def naflex(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "bos_token_id": None}
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = TOWER | {"patch_size": 8, "num_patches": 16}
    config = transformers.Siglip2Config(text_config=TOWER | words | special, vision_config=vision)
    return transformers.Siglip2Model(config), transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=20)


def altclip(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH + 2, "project_dim": 28}
    config = transformers.AltCLIPConfig(text_config=TOWER | words, vision_config=VISION, projection_dim=24)
    return transformers.AltCLIPModel(config), square_clip()


def chinese_clip(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH, "pad_token_id": 0}
    config = transformers.ChineseCLIPConfig(text_config=TOWER | words, vision_config=VISION, projection_dim=24)
    return transformers.ChineseCLIPModel(config), transformers.ChineseCLIPImageProcessorPil(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    )


def metaclip_2(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    special = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = transformers.MetaClip2Config(text_config=TOWER | words | special, vision_config=VISION, projection_dim=24)
    return transformers.MetaClip2Model(config), square_clip()


def square_clip() -> Any:
    return transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def gemma_on_the_left(folder: Path) -> Any:
    return gemma(folder, "Siglip2Tokenizer", "left")


def siglip_2_naflex_tokenizer(folder: Path) -> Any:
    return gemma(folder, "Siglip2Tokenizer")


FAMILIES: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "SigLIP": (sentencepiece, siglip),
    "SigLIP 2": (gemma, siglip),
    "SigLIP 2 padded on the left": (gemma_on_the_left, siglip),
    "SigLIP 2 NaFlex": (siglip_2_naflex_tokenizer, naflex),
    "AltCLIP": (xlm_roberta, altclip),
    "Chinese-CLIP": (bert, chinese_clip),
    "MetaCLIP 2": (xlm_roberta, metaclip_2),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("dual")
    write_tokenizer, make = FAMILIES[request.param]
    tokenizer = write_tokenizer(path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, processor = make(tokenizer)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    for part in (model, tokenizer, processor):
        part.save_pretrained(path / "saved")
    return path / "saved"


@pytest.mark.long
def test_vectors_are_those_of_the_library(folder: Path) -> None:
    """The calls of the models' own documentation: SigLIP pads to its length and looks at all of it, the rest mask."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    words = {"truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    if model.config.model_type.startswith("siglip"):
        lower = [text.lower() for text in TEXTS]  # what the released SigLIP 2 was trained on; SigLIP does it itself
        text = {"input_ids": tokenizer(lower, padding="max_length", **words)["input_ids"]}
    else:
        text = tokenizer(TEXTS, padding=True, **words)
    images = processor(images=[item.image.open() for item in ITEMS if item.image], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**text, **images)
    encoder = Dual(checkpoint=str(folder), text="{title}")
    with torch.inference_mode():
        got = encoder(encoder.prepare(ITEMS))
    assert {modality: rows.shape[1] for modality, rows in got.items()} == encoder.dims
    torch.testing.assert_close(got["image"], expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(got["text"], expected.text_embeds, atol=1e-5, rtol=0)
    assert (got["text"][:1] - got["text"][1:]).abs().amax() > 1e-2


@pytest.mark.long
@torch.no_grad()
def test_images_are_entered_at_any_block(folder: Path) -> None:
    """Of several shapes, too: from the number of patches alone, the padding's states set to zero."""
    encoder = Dual(checkpoint=str(folder), text="{title}", outputs="image").eval()
    inputs = encoder.prepare(ITEMS)
    expected, tower = encoder(inputs)["image"], encoder.towers()["image"]
    states, _ = tower.observe(inputs, range(tower.depth + 1))
    light = inputs._replace(pixels=None, has_image=torch.ones(len(ITEMS), dtype=torch.bool))
    for block in range(tower.depth):
        real = torch.where(tower.kept(light)[..., None], states[block], 0.0)
        torch.testing.assert_close(tower.upper(real, light, block), expected, atol=1e-5, rtol=0)
        assert tower.read(real, light).shape == (len(ITEMS), real.shape[2])


@pytest.mark.long
def test_padding_of_any_kind_changes_nothing(folder: Path) -> None:
    """Inputs that were padded with zeros, on either side, or cut to the longest text of a batch."""
    encoder = Dual(checkpoint=str(folder), text="{title}", outputs="text")
    given = encoder.prepare([Item(text, {"title": text}) for text in ("red", "a mug", "a")])
    assert given.text_ids is not None
    assert given.text_mask is not None
    ids, mask = given.text_ids * given.text_mask, given.text_mask
    more = LENGTH - ids.shape[1]
    assert more > 0
    pad = torch.nn.functional.pad
    with torch.inference_mode():
        expected = encoder(given)["text"]
        for sides in ((0, more), (more, 0)):
            got = encoder(Inputs(text_ids=pad(ids, sides), text_mask=pad(mask, sides)))["text"]
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
        short = int(mask[2].sum())
        alone = encoder(Inputs(text_ids=ids[2:, :short], text_mask=mask[2:, :short]))["text"]
    torch.testing.assert_close(alone, expected[2:], atol=1e-6, rtol=0)


@pytest.mark.long
def test_it_survives_saving_and_what_is_missing_is_masked(folder: Path, tmp_path: Path) -> None:
    encoder = Dual(checkpoint=str(folder), text="{title}", text_len=9)
    encoder.save_pretrained(tmp_path)
    again = Dual.from_pretrained(tmp_path)
    assert again.fingerprint() == encoder.fingerprint() != Dual(checkpoint=str(folder), text="{title}").fingerprint()
    items = [ITEMS[3], Item("x", {"title": ""}, Noise(1)), Item("y", {"title": "mug"})]
    given = again.prepare(items)
    assert given.text_ids is not None
    assert given.text_ids.shape[1] == 9
    present = again.present(given)
    assert present["image"].tolist() == [True, True, False]
    assert present["text"].tolist() == [True, False, True]
    with torch.inference_mode():
        got, expected = again(given), encoder(encoder.prepare(items))
    for modality, rows in got.items():
        assert torch.isfinite(rows).all()
        assert torch.equal(rows, expected[modality])


@pytest.mark.long
def test_the_temperature_is_one_learned_number(folder: Path) -> None:
    encoder = Dual(checkpoint=str(folder))
    assert encoder.logit_scale.shape == ()
    encoder.logit_scale.exp().backward()
    assert encoder.model.logit_scale.grad.abs().sum() > 0


def test_what_is_no_dual_encoder_is_refused(tmp_path: Path) -> None:
    tokenizer = gemma(tmp_path)
    model, processor = siglip(tokenizer)
    for part in (model.vision_model, tokenizer, processor):
        part.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"SiglipVisionModel under checkpoint .* is no dual encoder"):
        Dual(checkpoint=str(tmp_path))


def test_texts_longer_than_the_positions_are_refused(tmp_path: Path) -> None:
    Dual.write_tiny(tmp_path, TEXTS, image_size=32, dim=32, layers=1, text_len=12)
    with pytest.raises(ConfigError, match=r"text_len = 13, but .* 12 positions"):
        Dual(checkpoint=str(tmp_path), text_len=13)
    encoder = Dual(checkpoint=str(tmp_path), outputs="text")
    ids = torch.ones(1, 13, dtype=torch.int64)
    with pytest.raises(ConfigError, match="texts of 13 tokens, but the checkpoint has 12 positions"):
        encoder(Inputs(text_ids=ids, text_mask=ids > 0))
