"""Every encoder of the package keeps its contracts (`lmm4rec.testing`), whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lmm4rec.core.registry import ENCODERS
from lmm4rec.encoders.base import Encoder
from lmm4rec.testing import encoder_contracts
from lmm4rec.testing.encoders import CONTRACTS, Candidate

COMPONENTS: dict[str, type[Encoder]] = {name: ENCODERS.load(ENCODERS.find(name)) for name in ENCODERS.names()}


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Candidate]:
    """Each encoder is built once."""
    root: Path = tmp_path_factory.mktemp("encoders")
    return cache(lambda name: Candidate(COMPONENTS[name], root / name))


@pytest.mark.parametrize(
    ("name", "contract"),
    [(name, contract) for name, component in COMPONENTS.items() for contract in encoder_contracts(component)],
)
def test_contract(candidate: Callable[[str], Candidate], name: str, contract: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    CONTRACTS.check(candidate(name), name, contract)
