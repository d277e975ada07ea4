"""Endpoints of the service itself: bundles, health, metrics, reload."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from lmm4rec.serving.http.dependencies import BundleOfRequest, KnownParameters, Token, all_bundles, settings_of
from lmm4rec.serving.http.problems import Problem, responses
from lmm4rec.serving.http.schemas import BundleInfo, Bundles, Capabilities, Reloaded, Rules, RuleSetInfo, ServiceStatus
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.served_rules import check_rule_sets

router = APIRouter(tags=["service"], dependencies=[KnownParameters])


@router.get("/bundles", responses=responses())
async def bundles(request: Request) -> Bundles:
    """The bundles that are served, and their capabilities."""
    infos = [_info(served) for served in all_bundles(request)]
    return Bundles(bundles=infos, writing=settings_of(request).writing)


def _info(served: ServedBundle) -> BundleInfo:
    facts, bundle = served.bundle.facts, served.bundle
    data = facts.get("data", {})
    return BundleInfo(
        name=served.name,
        title=str(facts.get("title") or served.name),
        model=str(facts.get("model", "")),
        encoder=str(facts.get("encoder", "")),
        data=str(data.get("name", "") if isinstance(data, dict) else data),
        users=len(bundle.users),
        items=len(bundle.items),
        added=len(served.added),
        not_restored=list(served.not_restored),
        fields=served.field_names,
        loading=served.is_loading,
        can=Capabilities(**served.capabilities),
        interactions=len(bundle.seen),
        test=_numbers(facts.get("test")),
        test_error=_numbers(facts.get("test_error")),
        cost=_numbers(facts.get("cost")),
    )


def _numbers(facts: object) -> dict[str, float]:
    """The numbers among the facts; a card that somebody wrote may hold anything."""
    given = facts if isinstance(facts, Mapping) else {}
    return {str(name): value for name, value in given.items() if isinstance(value, int | float)}


@router.get("/rules", responses=responses(404))
async def rules(served: BundleOfRequest) -> Rules:
    """The rule sets that recommendations take by `rules=NAME`, and what they do."""
    sets, bundle = served.rules, served.bundle
    counts = await served.run(lambda: check_rule_sets(served.name, bundle, sets))
    infos = [RuleSetInfo(name=name, does=one.words(), items=counts[name]) for name, one in sets.items()]
    return Rules(bundle=served.name, rules=infos, error=served.rules_error)


@router.get("/health", responses=responses())
async def health() -> ServiceStatus:
    """Whether the process answers."""
    return ServiceStatus(status="ok")


@router.get("/ready", responses=responses())
async def ready(request: Request) -> ServiceStatus:
    """Whether the service accepts requests: not while it stops."""
    if request.app.state.stopping:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "the service is stopping", headers={"retry-after": "10"})
    return ServiceStatus(status="ready")


@router.get("/metrics", response_class=PlainTextResponse, responses=responses())
async def metrics(request: Request) -> Response:
    """Counters and times, for Prometheus."""
    return Response(request.app.state.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/reload", dependencies=[Token], responses=responses(401, 409))
async def reload(request: Request) -> Reloaded:
    """Load every bundle again from its folder; requests are answered meanwhile.

    This always needs the service's token: without one (`serve --token-env`) nobody may, and `kill -HUP` does the same.
    It has ten minutes, and one is done at a time.
    """
    served = all_bundles(request)
    if served.is_reloading:
        detail = "the bundles are being reloaded already; ask again when that is done"
        raise Problem(HTTPStatus.CONFLICT, detail, headers={"retry-after": "10"})
    return Reloaded(reloaded=await served.reload())
