"""Which sampled items are interactions, in turn: by a search among all, and by a table of hashes before it.

    python benchmarks/negatives.py

Medians of 20, one thread, in milliseconds, for the sampled negatives of a batch as `batch_size = "auto"` makes it.
"""

from __future__ import annotations

import torch

from _results import write
from few_rows import in_turn
from lmm4rec.training.interaction_set import InteractionSet
from lmm4rec.training.sampler import automatic_batch_size

SIZES = {  # users, items, pairs
    "Baby": (19_445, 7_050, 118_551),
    "Electronics": (200_000, 63_000, 1_700_000),
    "large": (1_000_000, 1_000_000, 5_000_000),
}


def checks(users: int, items: int, pairs: int) -> dict[str, float]:
    """The milliseconds of a batch by both ways."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(users, (pairs,), generator=generator)
    interactions = InteractionSet(drawn, torch.randint(items, (pairs,), generator=generator), items)
    batch = automatic_batch_size(pairs)

    def negatives() -> torch.Tensor:
        of = drawn[torch.randint(pairs, (batch,), generator=generator)]
        return of * items + torch.randint(items, (batch,), generator=generator)

    def search() -> torch.Tensor:
        asked = negatives()
        places = torch.searchsorted(interactions.keys, asked).clamp_(max=len(interactions.keys) - 1)
        found: torch.Tensor = interactions.keys[places] == asked
        return found

    found = in_turn({"drawing": negatives, "search": search, "hashes": lambda: interactions.contains(negatives())})
    drawing = found.pop("drawing")
    return {"batch_size": batch, **{name: round(each - drawing, 2) for name, each in found.items()}}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("negatives", {name: checks(*size) for name, size in SIZES.items()})
