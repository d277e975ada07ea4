"""Schemathesis draws requests from the OpenAPI document; no answer may be a failure of the server or off it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.schemas import BaseSchema
from server import TOKEN, Server
from shops import write_shop

pytestmark = pytest.mark.slow
UNREAD = b"Invalid HTTP request received."  # uvicorn's own word on an address beyond 64 KB: it reaches no endpoint
# what fits the document's schema may still be no image, or no JSON in a form's text
EXCLUDED = [checks.positive_data_acceptance]
EXAMPLES = int(os.environ.get("LMM4REC_FUZZ", "10"))  # of each endpoint; more find more


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    """The document of a running service."""
    run = write_shop(tmp_path_factory.mktemp("fuzz") / "shop")
    with Server([run], "--token-env", "LMM4REC_TEST_TOKEN") as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_breaks_the_service(document: BaseSchema, mode: GenerationMode) -> None:
    """Requests that fit the document, and requests that do not."""
    tried = 0
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @seed(0)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            response = case.call(headers={"authorization": f"Bearer {TOKEN}"})
            assert response.status_code < 500, f"{case.as_curl_command()}\n{response.content!r}"
            if response.content == UNREAD:
                assert response.status_code == 400
                return
            case.validate_response(response, excluded_checks=EXCLUDED)

        try:
            ask()
        except Unsatisfiable:  # it has nothing that could be wrong
            assert mode is GenerationMode.NEGATIVE
    assert tried > 5 * EXAMPLES
