"""`vlm` against transformers' own models, fed as their documentation says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vlm import Vlm
from lmm4rec.testing.items import ITEMS, TEXTS, WITHOUT_IMAGE

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

# how Qwen's tokenizers divide a text before they look for pairs
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3,
    "intermediate_size": 64, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
SIGHT = {"depth": 2, "num_heads": 2, "patch_size": 8}


def qwen_2(tokens: dict[str, Any]) -> Any:
    vision = SIGHT | {"embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}
    text = WORDS | {"rope_parameters": ROPE, "vocab_size": tokens.pop("vocab_size")}
    return transformers.Qwen2VLModel(transformers.Qwen2VLConfig(text_config=text, vision_config=vision, **tokens))


def qwen_2_5(tokens: dict[str, Any]) -> Any:
    vision = SIGHT | {"hidden_size": 32, "out_hidden_size": 48, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    text = WORDS | {"rope_parameters": ROPE, "vocab_size": tokens.pop("vocab_size")}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"window_size": 32}, **tokens)
    return transformers.Qwen2_5_VLModel(config)


def qwen_3(tokens: dict[str, Any]) -> Any:
    vision = SIGHT | {
        "hidden_size": 32, "out_hidden_size": 48, "intermediate_size": 64, "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }  # fmt: skip
    text = WORDS | {"rope_parameters": ROPE, "vocab_size": tokens.pop("vocab_size"), "head_dim": 16}
    return transformers.Qwen3VLModel(transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **tokens))


FAMILIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "Qwen2-VL": qwen_2, "Qwen2.5-VL": qwen_2_5, "Qwen3-VL": qwen_3,
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("vlm")
    Vlm.write_tiny(path, [*TEXTS, "Represent the user's input."])
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    pieces = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = pieces.Sequence(
        [pieces.Split(tokenizers.Regex(QWEN), "isolated"), pieces.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {f"vision_{end}_token_id": f"vision_{end}" for end in ("start", "end")}
    tokens = {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FAMILIES[request.param]({"vocab_size": len(tokenizer), **tokens})
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    for part in (model, tokenizer):
        part.save_pretrained(path)
    return path


@cache
def parts(folder: Path) -> tuple[Any, Any, Any]:
    """Model, tokenizer and preprocessor of images."""
    return (
        transformers.AutoModel.from_pretrained(folder).eval(),
        transformers.AutoTokenizer.from_pretrained(folder),
        transformers.AutoImageProcessor.from_pretrained(folder, backend="pil"),
    )


def library_vector(folder: Path, image: Image.Image | None, text: str, instruction: str, ending: str) -> Tensor:
    """One row alone: the whole prompt as one string, the image's token repeated as often as the image has tokens."""
    model, tokenizer, processor = parts(folder)
    content = [{"type": "image"}] if image else []
    content += [{"type": "text", "text": text}] if text else []
    messages: list[Any] = [{"role": "user", "content": content}]
    if instruction:
        messages = [{"role": "system", "content": [{"type": "text", "text": instruction}]}, *messages]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + ending
    given: dict[str, Any] = {}
    if image:
        given = dict(processor(images=image, return_tensors="pt"))
        count = int(given["image_grid_thw"].prod()) // 4
        prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * count)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    kinds = (ids == model.config.image_token_id).int()
    with torch.inference_mode():
        states = model(input_ids=ids, mm_token_type_ids=kinds, **given).last_hidden_state
    return torch.nn.functional.normalize(states[0, -1], dim=0)


@pytest.mark.long
@pytest.mark.parametrize("recipe", [("", ""), ("Represent the user's input.", "<|endoftext|>")])
def test_vectors_are_those_of_the_library(folder: Path, recipe: tuple[str, str]) -> None:
    """In one batch, with images of several shapes and texts of several lengths."""
    instruction, ending = recipe
    encoder = Vlm(
        checkpoint=str(folder), text="{title}", outputs="image+text+fused", image_tokens=16, instruction=instruction,
        ending=ending,
    ).eval()  # fmt: skip
    items = [*ITEMS[:2], Item("w", {"title": "(new) it's 20 % off"}, Wide())]
    with torch.inference_mode():
        got = encoder(encoder.prepare(items))
    for row, item in enumerate(items):
        assert item.image is not None
        image, text = item.image.open(), item.fields["title"]
        for modality, pair in {"image": (image, ""), "text": (None, text), "fused": (image, text)}.items():
            expected = library_vector(folder, *pair, instruction, ending)
            torch.testing.assert_close(got[modality][row], expected, atol=1e-4, rtol=0)
    assert (got["fused"][0] - got["image"][0]).abs().max() > 1e-2


@pytest.mark.long
@torch.no_grad()
def test_towers_begin_where_no_image_joins_any_more(folder: Path) -> None:
    """Qwen3-VL adds what it sees after its first block here."""
    outputs: Any = "image+text+fused"
    encoder = Vlm(checkpoint=str(folder), text="{title}", outputs=outputs, image_tokens=16).eval()
    inputs = encoder.prepare([*ITEMS[:2], Item("w", {"title": "a much longer title, of some words"}, Wide())])
    expected = encoder(inputs)
    for modality, tower in encoder.towers().items():
        assert tower.depth == (1 if encoder.model.config.model_type == "qwen3_vl" else 2)
        states, _ = tower.observe(inputs, range(tower.depth + 1))
        light = inputs._replace(pixels=None)
        for block in range(tower.depth):
            real = torch.where(tower.kept(light)[..., None], states[block], 0.0)
            torch.testing.assert_close(tower.upper(real, light, block), expected[modality], atol=1e-5, rtol=0)
        read = torch.nn.functional.normalize(encoder.model.language_model.norm(tower.read(states[tower.depth], light)))
        torch.testing.assert_close(read, expected[modality], atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Wide:
    """An image that is much wider than high."""

    width: int = 90

    def open(self) -> Image.Image:
        return Image.fromarray(np.random.default_rng(5).integers(0, 255, (20, self.width, 3), dtype=np.uint8))

    def digest(self) -> str:
        return f"wide {self.width}"


def test_an_image_of_any_shape_has_no_more_tokens_than_asked_for(tmp_path: Path) -> None:
    Vlm.write_tiny(tmp_path, TEXTS)
    encoder = Vlm(checkpoint=str(tmp_path), outputs="image", image_tokens=6).eval()
    inputs = encoder.prepare([ITEMS[0], Item("w", {}, Wide(9000)), WITHOUT_IMAGE])
    assert inputs.pixels is not None
    assert inputs.image_shape is not None
    assert inputs.pixels.shape[2] == 6 * 4
    assert (inputs.image_shape[:2].prod(1) <= 6 * 4).all()
    with torch.inference_mode():
        assert torch.isfinite(encoder(encoder.prepare([Item("w", {}, Wide(9000))]))["image"]).all()


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    Sentence.write_tiny(tmp_path / "bert", TEXTS)
    with pytest.raises(ConfigError, match=r"is a bert; the encoder 'vlm' knows qwen2_vl, qwen2_5_vl, qwen3_vl"):
        Vlm(checkpoint=str(tmp_path / "bert"))
    Vlm.write_tiny(tmp_path / "vlm", TEXTS)
    (tmp_path / "vlm" / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="has no chat template"):
        Vlm(checkpoint=str(tmp_path / "vlm"))
