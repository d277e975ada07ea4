"""Contrastive training of an encoder on a catalog's own pairs of picture and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Fraction, Inputs, Item, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.losses import contrastive
from lmm4rec.training.objective import Objective
from lmm4rec.training.sampler import RowSampler
from lmm4rec.training.trainer import History, Trainer

LARGEST_SCALE = 100.0  # CLIP's bound on the inverse temperature (arXiv 2103.00020, sec. 2.5)


@runtime_checkable
class DualEncoder(Protocol):
    """An encoder whose image and text vectors live in one space, with a learned log inverse temperature."""

    logit_scale: Tensor


class PairInputs:
    """The prepared inputs of all pairs, kept in memory: decoded and tokenized once, not once an epoch."""

    def __init__(self, encoder: Encoder, items: Sequence[Item], *, shown: bool) -> None:
        """Pairs whose picture or words turn out to be missing are left out; `rows` are those that remain."""
        blocks = []
        bar = progress(total=len(items), description="preparing pairs", unit="item", shown=shown)
        for start in range(0, len(items), 256):
            blocks.append(encoder.prepare(items[start : start + 256]))
            bar.update(len(items[start : start + 256]))
        bar.close()
        self.pixels = torch.cat([cast(Tensor, block.pixels) for block in blocks])
        width = max(cast(Tensor, block.text_ids).shape[1] for block in blocks)
        self.text_ids = torch.cat([_padded(cast(Tensor, block.text_ids), width) for block in blocks])
        self.text_mask = torch.cat([_padded(cast(Tensor, block.text_mask), width) for block in blocks])
        whole = self.text_mask.any(1)
        whole &= torch.cat([_has_image(block) for block in blocks])
        self.rows = torch.nonzero(whole).flatten()

    def of(self, rows: Int[Tensor, " batch"], device: torch.device) -> Inputs:
        """The inputs of the given rows, cut to the longest text among them."""
        mask = self.text_mask[rows]
        width = int(mask.sum(1).max())
        ids = self.text_ids[rows, :width]
        return Inputs(self.pixels[rows].to(device), ids.to(device), mask[:, :width].to(device))


def _padded(tensor: Tensor, width: int) -> Tensor:
    return F.pad(tensor, (0, width - tensor.shape[1]))


def _has_image(inputs: Inputs) -> Tensor:
    return inputs.has_image if inputs.has_image is not None else torch.ones(len(cast(Tensor, inputs.pixels))).bool()


class Contrastive(Objective):
    """Each picture finds its words among the batch's and the other way round (CLIP, arXiv 2103.00020, fig. 3)."""

    def __init__(self, encoder: Encoder, pairs: PairInputs) -> None:
        super().__init__()
        self.encoder, self.pairs = encoder, pairs

    def losses(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`contrastive`."""
        image, text = self.vectors(batch)
        scale = cast(DualEncoder, self.encoder).logit_scale.exp().clamp(max=LARGEST_SCALE)
        return {"contrastive": contrastive(image, text, scale)}

    def vectors(self, rows: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """The unit vectors of the rows' pictures and words."""
        out = self.encoder(self.pairs.of(rows, next(self.parameters()).device))
        return F.normalize(out["image"], dim=1), F.normalize(out["text"], dim=1)


def retrieval_recall(
    image: Float[Tensor, "pairs dim"], text: Float[Tensor, "pairs dim"], ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """The share of pairs whose other half is among the `k` nearest, the mean of both directions."""
    scores = image @ text.T
    own = scores.diagonal()
    ranks = torch.cat([(scores > own[:, None]).sum(1), (scores > own[None, :]).sum(0)])
    return {f"retrieval_recall@{k}": float((ranks < k).float().mean()) for k in ks}


def fit_pairs(
    encoder: Encoder,
    items: Sequence[Item],
    state_file: Path | None = None,
    shown: bool = True,
    *,
    epochs: PositiveInt = 20,
    batch_size: PositiveInt = 128,
    learning_rate: PositiveFloat = 1e-5,
    weight_decay: NonNegativeFloat = 0.1,
    warmup: Fraction = 0.1,
    patience: NonNegativeInt = 5,
    valid: Fraction = 0.1,
    seed: NonNegativeInt = 0,
    device: str = "auto",
) -> History:
    """Fine-tune an encoder on pairs of picture and words; its best weights by held-out image-text retrieval stay in it.

    Symmetric contrastive loss with learned temperature, AdamW, linear warm-up and cosine decay. `valid` is the share
    of pairs held out to choose the epoch by retrieval_recall@5; `patience` counts epochs.

    Raises:
        TrainingError: the encoder has no joint space, or there are too few whole pairs.
    """
    if not isinstance(getattr(encoder, "logit_scale", None), Tensor) or not {"image", "text"} <= set(encoder.dims):
        raise TrainingError(
            f"{type(encoder).__name__} gives {', '.join(encoder.dims)} and cannot be tuned on image-text pairs: "
            "take an encoder with image and text in one space, such as 'clip'"
        )
    pairs = PairInputs(encoder, items, shown=shown)
    order = pairs.rows[torch.randperm(len(pairs.rows), generator=torch.Generator().manual_seed(seed))]
    held_out = round(valid * len(order))
    if len(order) - held_out < 2 or held_out < 2:
        raise TrainingError(
            f"fine-tuning needs at least 4 items with picture and words, got {len(order)} of {len(items)}"
        )
    objective = Contrastive(encoder, pairs)

    def validate() -> Mapping[str, float]:
        with torch.inference_mode():
            blocks = [objective.vectors(rows) for rows in torch.split(order[:held_out], 256)]
        image, text = (torch.cat(side) for side in zip(*blocks, strict=True))
        return retrieval_recall(image, text)

    trainer = Trainer(
        epochs=epochs, optimizer="adamw", learning_rate=learning_rate, weight_decay=weight_decay, schedule="cosine",
        warmup=warmup, clip_norm=1.0, metric="retrieval_recall@5", patience=patience, seed=seed, device=device,
    )  # fmt: skip
    batches = RowSampler(order[held_out:], batch_size=batch_size)
    return trainer.fit(
        objective, batches, validate, state_file=state_file, description="tuning the encoder", shown=shown
    )
