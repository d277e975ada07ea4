"""VLMo: images and text through one transformer, with feed-forward experts for images, text and both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Fraction, Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import (
    FUSED,
    Checkpoint,
    Checkpointing,
    Encoder,
    ImageSize,
    Outputs,
    PatchSize,
    TextLength,
    TextTemplate,
    stack_items,
)
from lmm4rec.nn.inputs import pad_tokens
from lmm4rec.nn.pixels import squash_half
from lmm4rec.nn.transformers.checkpoint_sizes import text_length
from lmm4rec.nn.transformers.checkpoints import (
    digest,
    draw_model,
    read_settings,
    read_state,
    save_folder,
    weights_file,
)
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.nn.transformers.tokenizers import WordPieces, find_vocabulary, learn_word_pieces, need_vocabulary
from lmm4rec.nn.transformers.towers import Tower
from lmm4rec.nn.transformers.vlmo import recipe
from lmm4rec.nn.transformers.vlmo.checkpoint import ITC, POOLER, RENAMES, VL, load_vlmo
from lmm4rec.nn.transformers.vlmo.network import INITIAL_REACH, VlmoModel, VlmoShape

__all__ = ["Vlmo"]

_PIECES = "vocab.txt"
_PURPOSE = "the encoder 'vlmo'"
_OFFICIAL_TEXT = 40


class Vlmo(Encoder):
    """VLMo (Bao et al. 2022, arXiv 2111.02358), as its official code computes it.

    `checkpoint` is an official file (such as vlmo_base_plus_patch16_224.pt) or a folder written by `save_pretrained`.
    Sizes, the blocks with a VL expert, and whether positions are relative or absolute follow from its shapes; `heads`
    (one for each 64 of the width; 16 of 544), `image_size`, `patch` and `text_len` (40 tokens, both ends included) are
    the rest, and positions are interpolated to another `image_size`. `reach` is the text length of a relative bias
    table, 196 in all official checkpoints. `vocabulary` is the path of
    bert-base-uncased's vocab.txt, looked for beside the checkpoint; only `prepare` needs it.

    "image" and "text" are projections of the first token's last state, L2-normalized, each from a separate pass: with
    `variant` "itc" through the modality's experts alone, with "vl" through the VL experts of the blocks that have them.
    "fused" is the pooler's tanh of the text's first token after attention over the pair; it is not normalized, as in
    the official code, and an item without image or text has none.

    `drop_path` (the last block's rate of stochastic depth) and `checkpointing` (less memory, more time) are for
    training alone. Differs from the authors' code: no dropout on text embeddings in training.
    """

    separable = True
    joint = True
    saved_options = ("text", "outputs", "variant")
    below_blocks = recipe.BELOW_BLOCKS
    about: ClassVar = {
        "gives": "image and text in one space, their VL variants, and the fused pair",
        "weights": 'an official .pt file or a saved folder, with vocab.txt beside it; "tiny", "toyshop"',
        "parameters": "base 175,430,496; base_plus 166,567,360; large 561,544,448",
    }

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        text: TextTemplate = "{title}. {description}",
        outputs: Outputs = "image+text",
        variant: Annotated[Literal["itc", "vl"], Doc("Heads: contrastive (itc) or vision-language (vl).")] = "itc",
        heads: Annotated[PositiveInt | None, Doc("Attention heads, where the checkpoint does not tell.")] = None,
        image_size: ImageSize = None,
        patch: PatchSize = None,
        text_len: TextLength = None,
        reach: Annotated[PositiveInt | None, Doc("Text length of a relative bias table, where not saved.")] = None,
        vocabulary: Annotated[str | None, Doc("WordPiece vocabulary; left out: the one beside the checkpoint.")] = None,
        drop_path: Annotated[Fraction, Doc("Largest probability of stochastic depth in training.")] = 0.0,
        checkpointing: Checkpointing = False,
    ) -> None:
        """Raises ConfigError where the checkpoint is none, lacks weights, or contradicts a parameter."""
        super().__init__()
        path = weights_file(checkpoint, kind="VLMo")
        saved = read_settings(path)
        heads_of = {"image": ITC if variant == "itc" else VL, "text": ITC if variant == "itc" else VL, FUSED: POOLER}
        self.model = load_vlmo(
            read_state(path),
            checkpoint=checkpoint,
            needs=[name for modality in outputs.split("+") for name in heads_of[modality]],
            given={
                "heads": heads or saved.get("heads"), "reach": reach or saved.get("reach"),
                "image_size": image_size, "patch": patch,
            },
            drop_path=drop_path,
            checkpointing=checkpointing,
        )  # fmt: skip
        shape = self.model.shape
        width = (shape.itc if variant == "itc" else shape.vl) or 0
        widths = {"image": width, "text": width, FUSED: shape.pooler or 0}
        self.outputs, self.variant = outputs, variant
        self.dims = {modality: widths[modality] for modality in outputs.split("+")}
        self.text = text if self.uses("text") else ""
        official = _OFFICIAL_TEXT if shape.text_rows == INITIAL_REACH else shape.text_rows
        self.text_len = text_length(text_len or saved.get("text_len"), official, at_most=shape.longest_text)
        self.vocabulary_file = find_vocabulary(vocabulary, path.parent, (_PIECES, "bert-base-uncased-vocab.txt"))

    @property
    def logit_scale(self) -> Tensor:
        """The learned log of the inverse temperature of the variant; missing without its projections."""
        return self.log_scale(self.variant)

    @property
    def spaces(self) -> tuple[str, ...]:
        """The joint spaces ("itc", "vl") that the checkpoint has heads for, that of the variant first."""
        widths = {"itc": self.model.shape.itc, "vl": self.model.shape.vl}
        return tuple(sorted((space for space in widths if widths[space]), key=lambda space: space != self.variant))

    @property
    def matches(self) -> bool:
        """Whether the checkpoint has the head for image-text matching."""
        return self.model.shape.itm and self.model.shape.pooler is not None

    def log_scale(self, space: str) -> Float[Tensor, ""]:
        """The learned log of the inverse temperature of a joint space."""
        return cast(Tensor, self.model.logit_scale if space == "itc" else self.model.logit_vl_scale)

    def aligned(self, inputs: Inputs, space: str) -> tuple[Float[Tensor, "batch _dim"], Float[Tensor, "batch _dim"]]:
        """The unit vectors of images and texts in a joint space, whatever the variant."""
        return self.model.vectors(inputs, "image", space=space), self.model.vectors(inputs, "text", space=space)

    def match(self, inputs: Inputs) -> Float[Tensor, "batch 2"]:
        """Logits of "image and text do not match" and "they match" for each row."""
        return cast(Tensor, self.model.itm(self.model.vectors(inputs, FUSED)))

    @cached_property
    def tokenizer(self) -> WordPieces:
        """The vocabulary, read when it is first needed."""
        file = need_vocabulary(self.vocabulary_file, name=_PIECES, parameter="vocabulary", purpose=_PURPOSE)
        return WordPieces(file, purpose=_PURPOSE)

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels squashed to a square, and token ids padded with 0 to the longest text."""
        size = self.model.shape.image_size
        return stack_items(
            self,
            items,
            lambda image: squash_half(image, size),
            lambda texts: pad_tokens(self.tokenizer(texts, self.text_len), self.tokenizer.pad, texts),
        )

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The vectors that the inputs suffice for; ConfigError where there are none."""
        found = self.computable(inputs)
        return {modality: self.model.vectors(inputs, modality, space=self.variant) for modality in found}

    def towers(self) -> Mapping[Modality, Tower]:
        """The passes of the outputs, all through the same blocks, read at the first token."""
        return {modality: self.model.tower(modality, self.variant) for modality in self.dims}

    def recipes(self) -> Mapping[str, FinetuningRecipe]:
        """`official`: retrieval, the contrastive loss alone; `pretraining`: with the losses of pre-training."""
        shape = self.model.shape
        return {"official": recipe.retrieval_recipe(shape), "pretraining": recipe.pretraining_recipe(shape)}

    def settings(self) -> dict[str, object]:
        """Template, outputs, sizes that do not follow from the weights, and the vocabulary."""
        more = {"image_size": self.model.shape.image_size, "vocabulary": digest(self.vocabulary_file)}
        return {**self._settings(), **more}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder: weights under their official names, settings, and the vocabulary."""
        files = {_PIECES: self.vocabulary_file}
        save_folder(Path(folder), self.model, RENAMES, {"encoder": "vlmo", **self._settings()}, files)

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained VLMo, its vocabulary learned from `texts`, as a folder that `checkpoint` takes.

        It is meant for catalogs to pre-train on where no released weights are at hand, and for tests.
        """
        pieces = Path(folder) / _PIECES
        learn_word_pieces(texts, pieces, size=2000, purpose=_PURPOSE)
        shape = VlmoShape(  # like base_plus, which learns from scratch without small layer scales
            dim=96, layers=2, heads=3, ffn=384, vl_start=1, reach=None, absolute=True, layer_scale=False, itc=64, vl=64,
            pooler=96, vocabulary=WordPieces(pieces, purpose=_PURPOSE).size, image_size=64, patch=16, text_rows=48,
            itm=True,
        )  # fmt: skip
        model = draw_model(lambda: VlmoModel(shape), seed)
        settings = {"encoder": "vlmo", "heads": shape.heads, "text_len": shape.text_rows}
        save_folder(Path(folder), model, RENAMES, settings, {})

    def _settings(self) -> dict[str, object]:
        return {
            "text": self.text, "outputs": self.outputs, "variant": self.variant, "heads": self.model.shape.heads,
            "reach": self.model.shape.reach, "text_len": self.text_len,
        }  # fmt: skip
