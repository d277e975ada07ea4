"""The requests and responses of the service, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from lmm4rec.serving.http.settings import (
    MAX_FILTERS,
    MAX_HISTORY,
    MAX_ID,
    MAX_K,
    MAX_PAGE,
    MAX_POSTED,
    MAX_TEXT,
    Writing,
)

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
Kind: TypeAlias = Literal["interaction", "like", "bought", "dislike", "skip"]
ItemPath = Annotated[str, Path(min_length=1, max_length=MAX_ID, description="an item's id", examples=["T0001"])]
UserPath = Annotated[str, Path(min_length=1, max_length=MAX_ID, description="a user's id", examples=["u001"])]
K = Annotated[int, Query(ge=1, le=MAX_K, description="how many items; at most all of the catalog")]
Offset = Annotated[int, Query(ge=0, le=2**53, description="how many to skip")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="how many to list")]
TextFilter = Annotated[str, Query(max_length=MAX_TEXT, description="part of an id or a title")]
Only = Annotated[list[Id], Query(max_length=MAX_HISTORY, description="choose among these items alone")]

_WHERE = "filters on columns of the catalog, of which items pass all, such as price<=50"
_RULES = "the name of the rule set that ranks the list (`/rules`)"
FilterText = Annotated[str, Field(max_length=MAX_TEXT)]
Where = Annotated[list[FilterText], Query(max_length=MAX_FILTERS, description=_WHERE, examples=[[]])]
RulesName = Annotated[str | None, Query(max_length=MAX_ID, description=_RULES)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NearestItem(BaseModel):
    """An item of the user's history that is similar to a recommended one."""

    id: str
    title: str
    similarity: float = Field(description="cosine similarity, at most 1", examples=[0.83])
    picture: str | None = None


class Reason(BaseModel):
    """Why an item is recommended."""

    score: float
    shares: dict[str, float] = Field(
        description="the summand of each part of the model; of an added item: each modality, and 'new' for the rest",
        examples=[{"id": 0.9, "image": 0.7, "text": -0.1}],
    )
    nearest: list[NearestItem] = Field(description="the user's items that are most similar to it, best first")


class Card(BaseModel):
    """One item in a list."""

    id: str = Field(examples=["T0001"])
    title: str = Field(examples=["Striped linen cushion"])
    score: float | None = Field(default=None, description="what the list is sorted by", examples=[3.21])
    picture: str | None = Field(
        default=None,
        description="the path of its thumbnail; null where it has none",
        examples=["/thumbnails/T0001?bundle=vbpr-clip"],
    )
    added: bool = Field(default=False, description="whether it was added after the training")
    reason: Reason | None = None
    rules: list[str] | None = Field(
        default=None, description="where a rule set ranked the list: the boosts and the like that apply to the item"
    )
    place_without_rules: int | None = Field(
        default=None, description="its place in the list without rules; null where it was not in it"
    )


class RuleChange(BaseModel):
    """What one rule changed in a list."""

    rule: str = Field(examples=["at most 2 of brand=Acme"])
    removed: int = Field(description="items of the list without rules that are missing because of it")
    moved: int = Field(description="items of the list that it applies to and that had another place without rules")


class LeftOut(BaseModel):
    """An item of the list without rules that is missing."""

    id: str
    title: str
    picture: str | None = None
    place: int = Field(description="its place without rules", examples=[3])
    rule: str = Field(description="the rule because of which it is missing", examples=["never shown"])


class AppliedRules(BaseModel):
    """The rule set that ranked a list, and what it changed."""

    name: str = Field(examples=["summer"])
    changes: list[RuleChange] = Field(description="the rules that changed the list")
    left_out: list[LeftOut] = Field(description="items that would be in the list without rules")


class Cards(BaseModel):
    """Items, best first."""

    bundle: str = Field(examples=["vbpr-clip"])
    items: list[Card]
    note: str | None = Field(default=None, description="why there are fewer items than were asked for", examples=[None])
    rules: AppliedRules | None = Field(default=None, description="where a rule set ranked the list: what it changed")


class ItemDetail(Card):
    """One item with its texts."""

    fields: dict[str, str] = Field(examples=[{"title": "Striped linen cushion", "description": "Soft."}])


class _Page(BaseModel):
    bundle: str
    total: int = Field(description="how many there are in all")
    offset: int


class ItemPage(_Page):
    """A part of the list of items."""

    items: list[Card]


class UserSummary(BaseModel):
    """A user."""

    id: str = Field(examples=["u001"])
    history: int = Field(description="how many items they have", examples=[15])


class UserPage(_Page):
    """A part of the list of users."""

    users: list[UserSummary]


class AudienceMember(BaseModel):
    """A user who gets an item recommended."""

    id: str = Field(examples=["u001"])
    rank: int = Field(description="the item's place in the user's list", examples=[2])


class Audience(BaseModel):
    """The users who get an item recommended."""

    bundle: str
    k: int = Field(description="the length of the lists")
    asked: int = Field(description="the number of users whose lists were computed: all, or an even sample of them")
    people: list[AudienceMember] = Field(description="the users who get it, by the item's place in their list")


class UnknownUser(_Body):
    """A user whom the model was not trained on, with the items of their history."""

    history: Annotated[list[Id], Field(min_length=1, max_length=MAX_HISTORY, examples=[["T0001", "T0002"]])]
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    only: Annotated[list[Id], Field(max_length=MAX_HISTORY)] | None = None
    where: Annotated[list[FilterText], Field(max_length=MAX_FILTERS, description=_WHERE, examples=[[]])] = []
    rules: Annotated[str, Field(max_length=MAX_ID, description=_RULES)] | None = None


class Posted(_Body):
    """One interaction that a user had."""

    user: Id = Field(examples=["u001"])
    item: Id = Field(examples=["T0001"])
    kind: Kind = "interaction"
    time: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="when, in Unix seconds; default: now", examples=[1_796_000_000]
    )
    id: Id | None = Field(
        default=None,
        description="of two posts with the same id the first one counts. Default: computed from user, item, kind and "
        "time; without a time each post counts",
    )


class PostedInteractions(_Body):
    """Interactions, in any order."""

    interactions: Annotated[list[Posted], Field(min_length=1, max_length=MAX_POSTED)]


class PostedAnswer(BaseModel):
    """What became of posted interactions; all of them are on disk."""

    bundle: str
    new: int = Field(description="how many were stored now")
    repeated: int = Field(description="how many were stored before, under the same id")
    new_users: list[str] = Field(description="users whom the model was not trained on")
    unknown_items: list[str] = Field(description="items that the catalog does not have; they count once it has them")


class StoredInteraction(BaseModel):
    """One interaction as it is stored."""

    place: int = Field(description="its place in the order in which they were acknowledged")
    user: str
    item: str
    kind: str
    time: float
    id: str


class StoredInteractions(BaseModel):
    """A part of the stored interactions, in the order in which they were acknowledged."""

    bundle: str
    interactions: list[StoredInteraction]
    next: int | None = Field(description="`after` of the next part; null where this is the last one")


class Erased(BaseModel):
    """What was erased of a user in one bundle."""

    bundle: str
    interactions: int = Field(description="posted interactions")
    was_trained: bool = Field(description="whether the bundle had a vector and a history of the user")


class ErasedUser(BaseModel):
    """What was erased of a user, by bundle."""

    erased: list[Erased]


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


class Reloaded(BaseModel):
    """The bundles that were reloaded."""

    reloaded: list[str]


EXAMPLE_FIELDS: dict[str, Any] = {"title": "Striped mug", "description": "Stoneware, 300 ml."}
