"""BEiT-3: images and text through one transformer with separate weights for both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, cast

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
from lmm4rec.nn.transformers.beit3 import recipe
from lmm4rec.nn.transformers.beit3.checkpoint import RENAMES, load_beit3
from lmm4rec.nn.transformers.beit3.network import Beit3Model, Beit3Shape
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
from lmm4rec.nn.transformers.tokenizers import SentencePieces, find_vocabulary, learn_sentence_pieces, need_vocabulary
from lmm4rec.nn.transformers.towers import Tower

__all__ = ["Beit3"]

_PIECES = "beit3.spm"
_PURPOSE = "the encoder 'beit3'"


class Beit3(Encoder):
    """BEiT-3 (Wang et al. 2022, arXiv 2208.10442), as its official code computes it.

    `checkpoint` is an official file (such as beit3_base_itc_patch16_224.pth) or a folder written by `save_pretrained`.
    Sizes follow from its shapes; `heads` (one for each 64 of the width), `image_size`, `patch` and `text_len` (64
    tokens, both ends included) are the rest, and positions are interpolated to another `image_size`. `tokenizer` is the
    path of beit3.spm, by default the one beside the checkpoint; only `prepare` needs it.

    "image" and "text" are the retrieval heads' projections of the first token's last state, L2-normalized, each from a
    separate pass. "fused" is the first token's last states of image and text side by side, after attention over
    the pair: the input of the official code's classifier of pairs. It is not normalized, as there, and an item without
    image or text has none.

    `drop_path` (the last block's rate of stochastic depth) and `checkpointing` (less memory, more time) are for
    training alone.
    """

    separable = True
    joint = True
    saved_options = ("text", "outputs")
    below_blocks = recipe.BELOW_BLOCKS
    about: ClassVar = {
        "gives": "image and text, each 768-d (large 1024-d), and the fused pair (1536-d, large 2048-d)",
        "weights": 'an official .pth file or a saved folder, with beit3.spm beside it; "tiny", "toyshop"',
        "parameters": "base 222,167,041; large 674,799,617",
    }

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        text: TextTemplate = "{title}. {description}",
        outputs: Outputs = "image+text",
        heads: Annotated[PositiveInt | None, Doc("Attention heads, where the checkpoint does not tell.")] = None,
        image_size: ImageSize = None,
        patch: PatchSize = None,
        text_len: TextLength = None,
        tokenizer: Annotated[str | None, Doc("The file beit3.spm; left out: the one beside the checkpoint.")] = None,
        drop_path: Annotated[Fraction, Doc("Largest probability of stochastic depth in training.")] = 0.0,
        checkpointing: Checkpointing = False,
    ) -> None:
        """Raises ConfigError where the checkpoint is none, lacks weights, or contradicts a parameter."""
        super().__init__()
        path = weights_file(checkpoint, kind="BEiT-3")
        saved = read_settings(path)
        self.model = load_beit3(
            read_state(path),
            checkpoint=checkpoint,
            needs_heads=outputs != FUSED,
            given={"heads": heads or saved.get("heads"), "image_size": image_size, "patch": patch},
            drop_path=drop_path,
            checkpointing=checkpointing,
        )
        shape = self.model.shape
        width = shape.projection or 0
        widths = {"image": width, "text": width, FUSED: 2 * shape.dim}
        self.outputs = outputs
        self.dims = {modality: widths[modality] for modality in outputs.split("+")}
        self.text = text if self.uses("text") else ""
        self.text_len = text_length(text_len or saved.get("text_len"), 64, at_most=shape.longest_text)
        self.vocabulary_file = find_vocabulary(tokenizer, path.parent, (_PIECES,))

    @property
    def logit_scale(self) -> Tensor:
        """The learned log of the inverse temperature; missing without retrieval heads."""
        return cast(Tensor, self.model.logit_scale)

    @cached_property
    def tokenizer(self) -> SentencePieces:
        """The vocabulary, read when it is first needed."""
        file = need_vocabulary(self.vocabulary_file, name=_PIECES, parameter="tokenizer", purpose=_PURPOSE)
        return SentencePieces(file, purpose=_PURPOSE)

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels squashed to a square, and token ids padded with 1 to the longest text."""
        size = self.model.shape.image_size
        return stack_items(
            self,
            items,
            lambda image: squash_half(image, size),
            lambda texts: pad_tokens(self.tokenizer(texts, self.text_len), self.tokenizer.pad, texts),
        )

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The vectors that the inputs suffice for; ConfigError where there are none."""
        return {modality: self.model.vectors(inputs, modality) for modality in self.computable(inputs)}

    def towers(self) -> Mapping[Modality, Tower]:
        """The passes of the outputs, all through the same blocks, read at the first token of each kind."""
        return {modality: self.model.tower(modality) for modality in self.dims}

    def recipes(self) -> Mapping[str, FinetuningRecipe]:
        """`official`: retrieval on COCO."""
        return {"official": recipe.retrieval_recipe(self.model.shape)}

    def settings(self) -> dict[str, object]:
        """Template, outputs, sizes that do not follow from the weights, and the vocabulary."""
        more = {"image_size": self.model.shape.image_size, "vocabulary": digest(self.vocabulary_file)}
        return {**self._settings(), **more}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder: weights under their official names, settings, and the vocabulary."""
        files = {_PIECES: self.vocabulary_file}
        save_folder(Path(folder), self.model, RENAMES, {"encoder": "beit3", **self._settings()}, files)

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained BEiT-3, its vocabulary learned from `texts`, as a folder that `checkpoint` takes.

        It is meant for catalogs to pre-train on where no released weights are at hand, and for tests.
        """
        pieces = Path(folder) / _PIECES
        learn_sentence_pieces(texts, pieces, size=2000, purpose=_PURPOSE)
        shape = Beit3Shape(
            dim=96, layers=2, heads=3, ffn=384, projection=64, image_size=64, patch=16, text_rows=50,
            vocabulary=SentencePieces(pieces, purpose=_PURPOSE).size,
        )  # fmt: skip
        model = draw_model(lambda: Beit3Model(shape), seed)
        settings = {"encoder": "beit3", "heads": shape.heads, "text_len": shape.longest_text}
        save_folder(Path(folder), model, RENAMES, settings, {})

    def _settings(self) -> dict[str, object]:
        return {"text": self.text, "outputs": self.outputs, "heads": self.model.shape.heads, "text_len": self.text_len}
