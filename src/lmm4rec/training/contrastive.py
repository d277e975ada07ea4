"""The objective of fine-tuning: image and text of an item find each other, apart from hard negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.types import Inputs
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.encoding.shared_space import ManySpaces, shared_spaces
from lmm4rec.nn.losses import contrastive, matching
from lmm4rec.training.augmentation import Augmentation
from lmm4rec.training.lr_schedule import ParameterGroup
from lmm4rec.training.objective import Objective


class Contrastive(Objective):
    """Contrastive learning on pairs: each image finds its text in the batch and each text its image.

    As in CLIP (arXiv 2103.00020, fig. 3), in each of the shared spaces that `weights` names, the encoder's main one
    first. With `matching_weight` the encoder also classifies whether an image and a text match, on the pairs and on
    hard negatives: for each image a text, and for each text an image of another pair, drawn by similarity in the main
    space (ALBEF, Li et al. 2021, arXiv 2107.07651, sec. 3.2, as in VLMo). Each process draws its hard negatives from
    its own share of the batch; the contrastive losses are over all of it. A batch with fewer pairs than processes is
    not shared.
    """

    def __init__(
        self,
        encoder: Encoder,
        pairs: PreparedItems,
        runner: EncoderRunner,
        augmentation: Augmentation | None = None,
        *,
        weights: Mapping[str, float],
        matching_weight: float = 0.0,
        bounds_temperature: bool = True,
        groups: tuple[ParameterGroup, ...] = (),
    ) -> None:
        """`groups` are those of the encoder's parameters; without any, all train alike, as the trainer says."""
        super().__init__()
        self.encoder, self.pairs, self.runner = encoder, pairs, runner
        self.augmentation = augmentation or Augmentation()
        self.weights, self.matching_weight = weights, matching_weight
        self.bounds_temperature, self._groups = bounds_temperature, groups
        by_name = {space.name: space for space in shared_spaces(encoder)}
        self.spaces = [by_name[name] for name in weights]
        self.noise = torch.Generator()

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The groups of the encoder's parameters."""
        return self._groups

    def begin_epoch(self, generator: torch.Generator) -> None:
        """All noise of an epoch follows from the generator's state at its beginning, which stays as it is."""
        copy = torch.Generator()
        copy.set_state(generator.get_state())
        self.noise.manual_seed(_seed(copy))
        self.after_step()  # a scale may begin beyond its bound

    def after_step(self) -> None:
        """Put the learned temperatures within their bound, where they have one."""
        for space in self.spaces if self.bounds_temperature else ():
            space.bound_scale()

    def losses(self, batch: Int[Tensor, " batch"], generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`contrastive`, `contrastive_SPACE` for each further shared space, `matching`."""
        device = next(self.parameters()).device
        # changes are drawn for the whole batch, so that they are the same for any number of processes
        inputs = self.augmentation(self.pairs.of(batch), self.noise)
        with process_group.sharing(len(batch)):
            return self._losses(inputs, len(batch), device)

    def _losses(self, inputs: Inputs, pairs: int, device: torch.device) -> dict[str, Float[Tensor, ""]]:
        """The losses of this process's share of a batch of that many pairs."""
        inputs = inputs.rows(process_group.local_rows(torch.arange(pairs))).to(device)
        with self.runner.seeded(_seed(self.noise) + process_group.rank(), device):
            vectors = self._vectors(inputs)
            terms = dict[str, Tensor]()
            for index, (space, weight) in enumerate(zip(self.spaces, self.weights.values(), strict=True)):
                image, text = (process_group.all_gather(side, pairs) for side in vectors[space.name])
                name = f"contrastive_{space.name}" if index else "contrastive"
                terms[name] = weight * contrastive(image, text, space.scale())
            if self.matching_weight:
                terms["matching"] = self.matching_weight * self._matching(inputs, vectors)
        return terms

    def vectors(self, rows: Int[Tensor, " batch"]) -> tuple[Tensor, Tensor]:
        """The unit vectors of the rows' images and texts in the main space."""
        inputs = self.pairs.of(rows.to(next(self.parameters()).device))
        image, text = self.runner.encode(self.spaces[0].vectors, inputs)
        return image, text

    def _vectors(self, inputs: Inputs) -> dict[str, tuple[Tensor, Tensor]]:
        def all_spaces(part: Inputs) -> tuple[Tensor, ...]:
            return tuple(side for space in self.spaces for side in space.vectors(part))

        columns = self.runner.encode(all_spaces, inputs)
        return dict(zip(self.weights, zip(columns[::2], columns[1::2], strict=True), strict=True))

    def _matching(self, inputs: Inputs, vectors: Mapping[str, tuple[Tensor, Tensor]]) -> Float[Tensor, ""]:
        main = self.spaces[0]
        image, text = (side.detach() for side in vectors[main.name])
        similarity = (main.scale().detach() * image @ text.T).cpu()
        candidates = [inputs]
        if len(similarity) > 1:
            texts, images = (_hard_negatives(scores, self.runner.noise) for scores in (similarity, similarity.T))
            pixels, ids, mask = inputs.pixels, cast(Tensor, inputs.text_ids), cast(Tensor, inputs.text_mask)
            candidates.append(inputs._replace(pixels=cast(Tensor, pixels)[images.to(ids.device)]))
            candidates.append(inputs._replace(text_ids=ids[texts.to(ids.device)], text_mask=mask[texts.to(ids.device)]))
        encoder = cast(ManySpaces, self.encoder)
        logits = [self.runner.encode(lambda part: (encoder.match(part).float(),), one)[0] for one in candidates]
        return matching(logits[0], torch.cat(logits[1:]) if len(logits) > 1 else logits[0][:0])


def _hard_negatives(scores: Float[Tensor, "rows columns"], generator: torch.Generator) -> Int[Tensor, " rows"]:
    """A column for each row, never its own, drawn by the softmax of the scores."""
    own = torch.eye(len(scores), dtype=torch.bool)
    # of vectors that are not finite any column is drawn: the trainer then reports the loss
    chances = scores.nan_to_num().masked_fill(own, -torch.inf).softmax(dim=1)
    return torch.multinomial(chances, 1, generator=generator)[:, 0]


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
