"""The requests and responses of the service, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

from lmm4rec.serving.http.settings import (
    MAX_FILTERS,
    MAX_HISTORY,
    MAX_ID,
    MAX_K,
    MAX_PAGE,
    MAX_TEXT,
)

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
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


class RequestBody(BaseModel):
    """A JSON body; a key that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class NearestItem(BaseModel):
    """An item of the user's history that is similar to a recommended one."""

    id: str
    title: str
    similarity: float = Field(
        description="cosine of the two items, at most 1; of an added item by content; of EASE and the like a weight",
        examples=[0.83],
    )
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


class UnknownUser(RequestBody):
    """A user whom the model was not trained on, with the items of their history, the latest last."""

    history: Annotated[list[Id], Field(min_length=1, max_length=MAX_HISTORY, examples=[["T0001", "T0002"]])]
    k: Annotated[int, Field(ge=1, le=MAX_K)] = 10
    only: Annotated[list[Id], Field(max_length=MAX_HISTORY)] | None = None
    where: Annotated[list[FilterText], Field(max_length=MAX_FILTERS, description=_WHERE, examples=[[]])] = []
    rules: Annotated[str, Field(max_length=MAX_ID, description=_RULES)] | None = None


EXAMPLE_FIELDS: dict[str, Any] = {"title": "Striped mug", "description": "Stoneware, 300 ml."}
