"""Contrastive training of an encoder on a catalog's own pairs of picture and words."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.device import choose_device, has_bfloat16
from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Fraction, Inputs, Item, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.evaluation.alignment import retrieval_recall
from lmm4rec.nn.losses import contrastive, matching
from lmm4rec.training.distributed import gather, rank, share
from lmm4rec.training.joint import ManySpaces, scale_of, spaces_of, vectors_of
from lmm4rec.training.objective import Objective
from lmm4rec.training.pairs import Augment, PairInputs
from lmm4rec.training.passes import Passes
from lmm4rec.training.sampler import RowSampler
from lmm4rec.training.trainer import History, Trainer

Weight = NonNegativeFloat | Literal["auto"]

_METRIC = "retrieval_recall@5"


class Contrastive(Objective):
    """Each picture finds its words among the batch's and the other way round (CLIP, arXiv 2103.00020, fig. 3).

    `weights` names the joint spaces in which it does, the encoder's main one first. With `matching_weight` the encoder
    also tells pairs from their hardest look-alikes: for each picture words, and for each words a picture of another
    pair, drawn by similarity in the main space (ALBEF, Li et al. 2021, arXiv 2107.07651, sec. 3.2, as in VLMo). Of
    several processes each draws these from its own share of the batch; the contrastive losses are over all of it.
    """

    def __init__(
        self,
        encoder: Encoder,
        pairs: PairInputs,
        passes: Passes,
        augment: Augment | None = None,
        *,
        weights: Mapping[str, float],
        matching_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder, self.pairs, self.passes = encoder, pairs, passes
        self.augment = augment or Augment()
        self.weights, self.matching_weight = weights, matching_weight
        self.noise = torch.Generator()

    def begin_epoch(self, generator: torch.Generator) -> None:
        """All noise of an epoch follows from the state in which the generator begins it, and takes nothing from it."""
        peeked = torch.Generator()
        peeked.set_state(generator.get_state())
        self.noise.manual_seed(_seed(peeked))

    def losses(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`contrastive`, `contrastive_SPACE` for each further joint space, `matching`."""
        # changes are drawn for the whole batch, so that any number of processes sees the same
        device = next(self.parameters()).device
        inputs = self._own(self.augment(self.pairs.of(batch, torch.device("cpu")), self.noise), device)
        with self.passes.seeded(_seed(self.noise) + rank(), device):
            vectors = self._vectors(inputs)
            terms = {}
            for index, (space, weight) in enumerate(self.weights.items()):
                image, text = vectors[space]
                name = f"contrastive_{space}" if index else "contrastive"
                terms[name] = weight * contrastive(gather(image), gather(text), scale_of(self.encoder, space))
            if self.matching_weight:
                terms["matching"] = self.matching_weight * self._matching(inputs, vectors)
        return terms

    def vectors(self, rows: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """The unit vectors of the rows' pictures and words in the main space."""
        main = next(iter(self.weights))
        inputs = self.pairs.of(rows, next(self.parameters()).device)
        image, text = self.passes(lambda part: vectors_of(self.encoder, part, [main])[main], inputs)
        return image, text

    def _own(self, inputs: Inputs, device: torch.device) -> Inputs:
        return Inputs(*(None if values is None else share(values).to(device) for values in inputs))

    def _vectors(self, inputs: Inputs) -> dict[str, tuple[Tensor, Tensor]]:
        def flat(part: Inputs) -> tuple[Tensor, ...]:
            return tuple(side for pair in vectors_of(self.encoder, part, list(self.weights)).values() for side in pair)

        columns = self.passes(flat, inputs)
        return dict(zip(self.weights, zip(columns[::2], columns[1::2], strict=True), strict=True))

    def _matching(self, inputs: Inputs, vectors: Mapping[str, tuple[Tensor, Tensor]]) -> Float[Tensor, ""]:
        main = next(iter(self.weights))
        image, text = (side.detach() for side in vectors[main])
        alike = (scale_of(self.encoder, main).detach() * image @ text.T).cpu()
        tried = [inputs]
        if len(alike) > 1:
            words, pictures = (_other(scores, self.passes.noise) for scores in (alike, alike.T))
            pixels, ids, mask = inputs.pixels, cast(Tensor, inputs.text_ids), cast(Tensor, inputs.text_mask)
            tried.append(inputs._replace(pixels=cast(Tensor, pixels)[pictures.to(ids.device)]))
            tried.append(inputs._replace(text_ids=ids[words.to(ids.device)], text_mask=mask[words.to(ids.device)]))
        encoder = cast(ManySpaces, self.encoder)
        logits = [self.passes(lambda part: (encoder.match(part).float(),), one)[0] for one in tried]
        return matching(logits[0], torch.cat(logits[1:]) if len(logits) > 1 else logits[0][:0])


def _other(scores: Float[Tensor, "rows columns"], generator: torch.Generator) -> Int[Tensor, " rows"]:
    """A column for each row, never its own, drawn by the softmax of the scores."""
    own = torch.eye(len(scores), dtype=torch.bool)
    chances = scores.masked_fill(own, -torch.inf).softmax(dim=1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))


@dataclass
class Tuned(History):
    """What tuning did: its history, and how held-out pairs find each other before it and after."""

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


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
    crop: Fraction = 0.0,
    flip: bool = False,
    mask: Fraction = 0.0,
    vl_weight: Weight = "auto",
    matching_weight: Weight = "auto",
    chunk: NonNegativeInt = 0,
    checkpointing: bool = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    memory_mb: PositiveInt = 4096,
    seed: NonNegativeInt = 0,
    device: str = "auto",
) -> Tuned:
    """Fine-tune an encoder on pairs of picture and words; its best weights by held-out image-text retrieval stay in it.

    Symmetric contrastive loss with learned temperature, AdamW, linear warm-up and cosine decay. `valid` is the share
    of pairs held out to choose the epoch by retrieval_recall@5; `patience` counts epochs.

    Args:
        encoder: what is tuned.
        items: those without picture or words are left out.
        state_file: where the state of training is kept, and found after a kill.
        shown: whether to show progress.
        epochs: passes over the pairs, at most.
        batch_size: pairs in a step, each the others' negative.
        learning_rate: at its height.
        weight_decay: of the optimizer.
        warmup: share of all steps in which the learning rate rises.
        patience: epochs without a new best before training stops; 0: never.
        valid: share of the pairs that is held out.
        crop: largest share of a picture's area that is cut away at random.
        flip: mirror half of the pictures.
        mask: chance of each token to be left out.
        vl_weight: of the contrastive loss in an encoder's second joint space (VLMo's); "auto": 1 where there is one.
        matching_weight: of telling pairs from look-alikes; "auto": 1 where the encoder has a head for it.
        chunk: pairs in a pass of the encoder, for batches beyond memory; 0: the whole batch.
        checkpointing: keep only the states between blocks, for less memory and more time.
        precision: of the encoder's passes; "auto": bfloat16 where the hardware has it.
        memory_mb: prepared pictures beyond this lie in a temporary file.
        seed: of the held-out pairs, order and noise.
        device: where to train.

    Raises:
        TrainingError: the encoder has no joint space, or there are too few whole pairs.
    """
    weights = loss_weights(encoder, vl_weight=vl_weight, matching_weight=matching_weight)
    pairs = PairInputs(encoder, items, shown=shown, memory_mb=memory_mb)
    held_out, rest = _parts(pairs, items, valid=valid, seed=seed)
    resolved = resolve_precision(precision, device)
    passes = Passes(encoder, precision=resolved, chunk=chunk)
    match_weight = weights.pop("matching", 0.0)
    objective = Contrastive(
        encoder, pairs, passes, Augment(crop, flip, mask), weights=weights, matching_weight=match_weight
    )

    def validate() -> Mapping[str, float]:
        with torch.inference_mode():
            blocks = [objective.vectors(rows) for rows in torch.split(held_out, 256)]
        image, text = (torch.cat(side) for side in zip(*blocks, strict=True))
        return retrieval_recall(image, text)

    trainer = Trainer(
        epochs=epochs, optimizer="adamw", learning_rate=learning_rate, weight_decay=weight_decay, schedule="cosine",
        warmup=warmup, clip_norm=1.0, metric=_METRIC, patience=patience, seed=seed, device=device,
    )  # fmt: skip
    batches = RowSampler(rest, batch_size=batch_size)
    objective.to(trainer.device).eval()
    before = validate()
    with passes.attached(checkpointing=checkpointing):
        history = trainer.fit(
            objective, batches, validate, state_file=state_file, description="tuning the encoder", shown=shown
        )
    tuned = Tuned(**vars(history), before=before, after=validate())
    _tell(tuned)
    return tuned


def loss_weights(encoder: Encoder, *, vl_weight: Weight = "auto", matching_weight: Weight = "auto") -> dict[str, float]:
    """The weight of each loss: of every joint space, the main one's first, and of "matching".

    Raises:
        TrainingError: the encoder has no joint space, or not the heads for a weight that was asked for.
    """
    main, *others = spaces_of(encoder)
    weights = {main: 1.0}
    name = type(encoder).__name__
    if not others and vl_weight not in ("auto", 0):
        raise TrainingError(
            f"vl_weight = {vl_weight}, but {name} has no second joint space; VLMo has where the checkpoint holds both "
            'pairs of heads. Set vl_weight = 0.0 or "auto"'
        )
    for space in others if vl_weight else ():
        weights[space] = 1.0 if vl_weight == "auto" else vl_weight
    can_match = isinstance(encoder, ManySpaces) and encoder.matches
    if not can_match and matching_weight not in ("auto", 0):
        raise TrainingError(
            f"matching_weight = {matching_weight}, but this {name} has no head that tells whether picture and words "
            'belong together; pre-trained VLMo has. Set matching_weight = 0.0 or "auto"'
        )
    if can_match and matching_weight:
        weights["matching"] = 1.0 if matching_weight == "auto" else matching_weight
    return weights


def resolve_precision(wanted: str, device: str) -> Literal["float32", "bfloat16"]:
    """What "auto" means on a device."""
    if wanted == "auto":
        return "bfloat16" if has_bfloat16(choose_device(device)) else "float32"
    return "bfloat16" if wanted == "bfloat16" else "float32"


def _parts(pairs: PairInputs, items: Sequence[Item], *, valid: float, seed: int) -> tuple[Tensor, Tensor]:
    """The rows held out and the rows to train on."""
    order = pairs.rows[torch.randperm(len(pairs.rows), generator=torch.Generator().manual_seed(seed))]
    held_out = round(valid * len(order))
    if len(order) - held_out < 2 or held_out < 2:
        raise TrainingError(
            f"fine-tuning needs at least 4 items with picture and words, got {len(order)} of {len(items)}"
        )
    return order[:held_out], order[held_out:]


def _tell(tuned: Tuned) -> None:
    before, after = tuned.before[_METRIC], tuned.after[_METRIC]
    worse = after < before
    logging.getLogger(__name__).log(
        logging.WARNING if worse else logging.INFO,
        "tuned for %d epochs; held-out image-text retrieval recall@5 %.4f before, %.4f after%s",
        len(tuned.rows), before, after,
        ": tuning made it worse; try a lower learning_rate or take the encoder as it is" if worse else "",
    )  # fmt: skip
