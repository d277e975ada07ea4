"""Components by what their classes declare, for tests that mean any component of a kind."""

from __future__ import annotations

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.recommenders.base import Recommender


def recommender(**declared: bool) -> str:
    """The name of the first recommender of the package whose class variables have these values."""
    for name in RECOMMENDERS.names():
        component: type[Recommender] = RECOMMENDERS.load(RECOMMENDERS.find(name))
        if all(getattr(component, variable) == value for variable, value in declared.items()):
            return name
    raise LookupError(f"no recommender declares {declared}")
