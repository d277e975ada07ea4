"""The words of findings."""

from __future__ import annotations

import pytest

from lmm4rec.data.findings import agreeing


@pytest.mark.parametrize(
    ("plural", "singular"), [("have", "has"), ("are", "is"), ("were", "was"), ("name", "names"), ("get", "gets")]
)
def test_a_verb_agrees_with_its_count(plural: str, singular: str) -> None:
    assert [agreeing(count, plural) for count in (0, 1, 2)] == [plural, singular, plural]
