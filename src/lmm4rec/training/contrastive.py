"""The objective of tuning: images and words of the same item find each other, and are told from look-alikes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.types import Inputs
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.runner import Passes
from lmm4rec.encoding.shared_space import ManySpaces, scale_of, vectors_of
from lmm4rec.nn.losses import contrastive, matching
from lmm4rec.training.image_text_pairs import Augment, PairInputs
from lmm4rec.training.objective import Objective


class Contrastive(Objective):
    """Each image finds its words among the batch's and the other way round (CLIP, arXiv 2103.00020, fig. 3).

    `weights` names the joint spaces in which it does, the encoder's main one first. With `matching_weight` the encoder
    also tells pairs from their hardest look-alikes: for each image words, and for each words an image of another
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
        with self.passes.seeded(_seed(self.noise) + process_group.rank(), device):
            vectors = self._vectors(inputs)
            terms = {}
            for index, (space, weight) in enumerate(self.weights.items()):
                image, text = (process_group.all_gather(side, len(batch)) for side in vectors[space])
                name = f"contrastive_{space}" if index else "contrastive"
                terms[name] = weight * contrastive(image, text, scale_of(self.encoder, space))
            if self.matching_weight:
                terms["matching"] = self.matching_weight * self._matching(inputs, vectors)
        return terms

    def vectors(self, rows: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """The unit vectors of the rows' images and words in the main space."""
        main = next(iter(self.weights))
        inputs = self.pairs.of(rows, next(self.parameters()).device)
        image, text = self.passes(lambda part: vectors_of(self.encoder, part, [main])[main], inputs)
        return image, text

    def _own(self, inputs: Inputs, device: torch.device) -> Inputs:
        return Inputs(*(None if values is None else process_group.local_rows(values).to(device) for values in inputs))

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
            words, images = (_other(scores, self.passes.noise) for scores in (alike, alike.T))
            pixels, ids, mask = inputs.pixels, cast(Tensor, inputs.text_ids), cast(Tensor, inputs.text_mask)
            tried.append(inputs._replace(pixels=cast(Tensor, pixels)[images.to(ids.device)]))
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
