"""Responses about the service and its bundles, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from lmm4rec.serving.http.settings import Writing


class Capabilities(BaseModel):
    """The requests that a bundle can answer."""

    search_words: bool
    search_picture: bool
    add_items: bool
    explain: bool


class BundleInfo(BaseModel):
    """One bundle that is served."""

    name: str = Field(examples=["vbpr-clip"])
    title: str = Field(examples=["VBPR, CLIP"])
    model: str = Field(examples=["vbpr"])
    encoder: str = Field(examples=["clip"])
    data: str = Field(examples=["toyshop"])
    users: int
    items: int
    added: int = Field(description="items added after the training")
    not_restored: list[str] = Field(description="added items on disk that this bundle refused", default=[])
    fields: list[str] = Field(description="the text fields that its items have", examples=[["title", "description"]])
    loading: bool = Field(
        description="whether the encoder is being loaded; searches wait for it, `can` is without them"
    )
    can: Capabilities
    interactions: int = Field(description="those of the data set", examples=[12_000])
    test: dict[str, float] = Field(description="measured on the test part", examples=[{"recall@20": 0.21}])
    test_error: dict[str, float] = Field(
        description="the standard errors of `test` over users", examples=[{"recall@20": 0.01}]
    )
    cost: dict[str, float] = Field(
        description="of the run: seconds, peak_memory_mb, parameters, ...", examples=[{"seconds": 19.9}]
    )


class Bundles(BaseModel):
    """The bundles that are served; the first one answers requests that name none."""

    bundles: list[BundleInfo]
    writing: Writing = Field(description="who may add and delete items: everybody, those with the token, or nobody")


class RuleSetInfo(BaseModel):
    """One rule set."""

    name: str = Field(examples=["summer"])
    does: list[str] = Field(
        description="what its rules do", examples=[["only category=shoes", "at most 2 of one brand"]]
    )
    items: int = Field(description="how many items its filters leave")


class Rules(BaseModel):
    """The rule sets that may rank lists of a bundle."""

    bundle: str
    rules: list[RuleSetInfo]
    error: str | None = Field(
        default=None, description="why the rules were not replaced at the last reload: these are the earlier ones"
    )


class Night(BaseModel):
    """One run of the night job (`lmm4rec refresh`)."""

    night: str = Field(description="its folder in the live folder", examples=["2026-11-28T03-00-00"])
    started: str = Field(examples=["2026-11-28T03:00:00+00:00"])
    finished: str | None = None
    decision: str = Field(description="first, swapped, kept, failed or interrupted", examples=["swapped"])
    why: str = ""
    model: str = ""
    serving: str | None = Field(default=None, description="the night whose bundle is served afterwards")
    epochs: int | None = None
    rows: dict[str, dict[str, int]] = Field(default={}, description="how many rows of each kind were kept, new, gone")
    left_out: dict[str, int] = Field(
        default={}, description="posted interactions by item that neither the source nor the service has"
    )
    seconds: dict[str, float] = Field(default={}, description="by step")
    recent: dict[str, Any] | None = Field(
        default=None, description="quality on recent interactions, before and after; null where it was not measured"
    )
    comparison: dict[str, Any] | None = Field(default=None, description="of the served bundle with yesterday's")


class Nights(BaseModel):
    """The runs of the night job, the latest first."""

    bundle: str
    nights: list[Night]


class Shared(BaseModel):
    """How many users, or items, both bundles have, and only one of them has."""

    both: int
    only_this: int
    only_other: int


class ItemExposure(BaseModel):
    """The share of the users whose list has an item."""

    id: str
    title: str
    picture: str | None = None
    this: float
    other: float


class Comparison(BaseModel):
    """How alike the lists of two bundles are, as means over the users that both have, or an even sample of them."""

    bundle: str
    other: str
    k: int = Field(description="the length of the lists")
    asked: int = Field(description="the number of users whose lists were compared")
    users: Shared
    items: Shared
    overlap: float = Field(description="the share of a list that is in both lists", examples=[0.62])
    rank_biased: float = Field(description="rank-biased overlap, which weighs first places most", examples=[0.55])
    first_changed: float = Field(description="the share of users whose first item differs", examples=[0.3])
    more: list[ItemExposure] = Field(description="the items that this bundle shows to more users than the other one")
    fewer: list[ItemExposure] = Field(description="the items that it shows to fewer")


class ServiceStatus(BaseModel):
    """Whether the service answers, and is ready for requests."""

    status: str = Field(examples=["ok"])
    rules_error: str | None = Field(
        default=None, description="why the newest rule file was refused; the earlier rules serve on"
    )


class Reloaded(BaseModel):
    """The bundles that were reloaded."""

    reloaded: list[str]
