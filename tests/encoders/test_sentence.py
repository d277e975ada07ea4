"""`sentence` with models of the day, against the vectors of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lmm4rec.encoders.sentence import Sentence
from lmm4rec.testing.items import ITEMS, TEXTS

transformers = pytest.importorskip("transformers")
library = pytest.importorskip("sentence_transformers")

SHAPE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
PROMPTS = {"query": "query: ", "document": "passage: "}


def special(tokenizer: Any) -> dict[str, Any]:
    names = ("pad", "cls", "sep", "mask")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}
    return {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": None, **ids}


def modern_bert(tokenizer: Any) -> Any:
    return transformers.ModernBertModel(transformers.ModernBertConfig(**SHAPE, **special(tokenizer)))


def nomic_bert(tokenizer: Any) -> Any:
    return transformers.NomicBertModel(transformers.NomicBertConfig(**SHAPE, **special(tokenizer)))


def euro_bert(tokenizer: Any) -> Any:
    return transformers.EuroBertModel(transformers.EuroBertConfig(**SHAPE, **special(tokenizer)))


def jina_v3(tokenizer: Any) -> Any:
    return transformers.JinaEmbeddingsV3Model(transformers.JinaEmbeddingsV3Config(**SHAPE, **special(tokenizer)))


def qwen_3(tokenizer: Any) -> Any:
    words = {"vocab_size": len(tokenizer), "num_key_value_heads": 1, "head_dim": 16}
    return transformers.Qwen3Model(transformers.Qwen3Config(**SHAPE, **words))


FAMILIES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "ModernBERT": (modern_bert, "cls"),
    "Nomic-BERT": (nomic_bert, "mean"),
    "EuroBERT": (euro_bert, "mean"),
    "Jina v3": (jina_v3, "mean"),
    "Qwen3": (qwen_3, "lasttoken"),
}


@pytest.mark.long
@torch.no_grad()
def test_the_last_token_is_read_behind_an_instruction_as_with_transformers_alone(tmp_path: Path) -> None:
    """The recipe of Qwen3-Embedding and Jina v4 and v5: padding on the left, the state of the last token."""
    modules = library.sentence_transformer.modules
    instruction = "Instruct: find what a shopper wants\nQuery: "
    Sentence.write_tiny(tmp_path, [*TEXTS, instruction])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, padding_side="left")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = qwen_3(tokenizer).eval()
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    layers = [modules.Transformer(str(tmp_path / "model")), modules.Pooling(32, "lasttoken")]
    library.SentenceTransformer(modules=layers, prompts={"query": instruction}, device="cpu").save(
        str(tmp_path / "own")
    )
    encoder = Sentence(checkpoint=str(tmp_path / "own"), text="{title}", prompt="query").eval()
    got = encoder(encoder.prepare(ITEMS))["text"]
    for row, item in enumerate(ITEMS):
        ids = tokenizer(instruction + item.fields["title"], return_tensors="pt")["input_ids"]
        expected = torch.nn.functional.normalize(model(input_ids=ids).last_hidden_state[0, -1], dim=0)
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_the_library(family: str, tmp_path: Path) -> None:
    make, pooling = FAMILIES[family]
    modules = library.sentence_transformer.modules
    Sentence.write_tiny(tmp_path, [*TEXTS, "passage: query:"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(tokenizer)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    layers = [modules.Transformer(str(tmp_path / "model"), max_seq_length=40), modules.Pooling(32, pooling)]
    library.SentenceTransformer(
        modules=layers, prompts=PROMPTS, default_prompt_name="document", device="cpu"
    ).save_pretrained(str(tmp_path / "saved"))

    saved = library.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = [item.fields["title"] for item in ITEMS]
    for prompt, name in ((None, "document"), ("query", "query"), ("passage: ", "document")):
        encoder = Sentence(checkpoint=str(tmp_path / "saved"), text="{title}", prompt=prompt).eval()
        assert encoder.prompt == PROMPTS[name]
        expected = torch.from_numpy(saved.encode(texts, normalize_embeddings=True, prompt_name=name))
        with torch.inference_mode():
            got = encoder(encoder.prepare(ITEMS))["text"]
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (got[:1] - got[1:]).abs().amax() > 1e-3
    assert tuple(encoder.towers()) == ("text",)
