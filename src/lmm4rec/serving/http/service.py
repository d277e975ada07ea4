"""Endpoints of the service itself: bundles, health, metrics, reload."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response

from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.serving.comparison_results import Exposure, Presence
from lmm4rec.serving.http.dependencies import (
    BundleOfRequest,
    KnownParameters,
    Token,
    WriteAccess,
    all_bundles,
    settings_of,
)
from lmm4rec.serving.http.problems import Problem, responses
from lmm4rec.serving.http.schemas import Limit
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.served_rules import check_rule_sets
from lmm4rec.serving.http.service_schemas import (
    BundleInfo,
    Bundles,
    Capabilities,
    Comparison,
    ItemExposure,
    Night,
    Nights,
    Reloaded,
    Rules,
    RuleSetInfo,
    ServiceStatus,
    Shared,
)
from lmm4rec.serving.http.settings import MAX_ID
from lmm4rec.serving.night_log import read_nights

_MOST_SCORES = 2 * 10**8  # computed for a comparison: a second or two
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
        added=len(served.items.added),
        not_restored=list(served.items.not_restored),
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
    sets, bundle = served.rules.sets, served.bundle
    counts = await served.run(lambda: check_rule_sets(served.name, bundle, sets))
    infos = [RuleSetInfo(name=name, does=one.words(), items=counts[name]) for name, one in sets.items()]
    return Rules(bundle=served.name, rules=infos, error=served.rules.error)


@router.get("/nights", dependencies=[WriteAccess], responses=responses(401, 404))
async def nights(served: BundleOfRequest, limit: Limit = 50) -> Nights:
    """The log of the night job of a live folder, the latest night first; it needs write access, as it has messages.

    It is empty where the bundle is that of a run.
    """
    records = await served.run(lambda: read_nights(served.home))
    known = [one for one in records[::-1] if all(one.get(name) for name in ("night", "started", "decision"))]
    return Nights(bundle=served.name, nights=[Night.model_validate(one) for one in known[:limit]])


@router.get("/compare", responses=responses(404))
async def compare(
    request: Request,
    served: BundleOfRequest,
    other: Annotated[str, Query(max_length=MAX_ID, description="the name of the bundle to compare with")],
    k: Annotated[int, Query(ge=1, le=100, description="the length of the lists")] = 20,
) -> Comparison:
    """How alike the lists of two bundles are; of very many users, an even sample is asked."""
    second = all_bundles(request).get(other)
    before, after = second.bundle, served.bundle
    most = max(100, _MOST_SCORES // (len(before.items) + len(after.items)))
    found = await served.run(lambda: compare_bundles(before, after, k, most_users=most))

    def exposure(one: Exposure) -> ItemExposure:
        picture = served.image_path(one.item) or second.image_path(one.item)
        return ItemExposure(id=one.item, title=one.title, picture=picture, this=one.after, other=one.before)

    return Comparison(
        bundle=served.name, other=second.name, k=found.k, asked=min(most, found.users.both),
        users=_shared(found.users), items=_shared(found.items), overlap=found.overlap.overlap,
        rank_biased=found.overlap.rank_biased, first_changed=found.overlap.first_changed,
        more=[exposure(one) for one in found.gaining], fewer=[exposure(one) for one in found.losing],
    )  # fmt: skip


def _shared(presence: Presence) -> Shared:
    return Shared(both=presence.both, only_this=presence.only_after, only_other=presence.only_before)


@router.get("/health", responses=responses(), response_model_exclude_none=True)
async def health(request: Request) -> ServiceStatus:
    """Whether the process answers, and whether it refused the newest rule file; the earlier rules serve on then."""
    errors = [error for served in all_bundles(request) if (error := served.rules.error) is not None]
    return ServiceStatus(status="ok", rules_error=errors[0] if errors else None)


@router.get("/ready", responses=responses(), response_model_exclude_none=True)
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
