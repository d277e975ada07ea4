"""Requests and responses of interactions, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from lmm4rec.serving.http.schemas import Id, RequestBody
from lmm4rec.serving.http.settings import MAX_POSTED

Kind: TypeAlias = Literal["interaction", "like", "bought", "dislike", "skip"]


class Posted(RequestBody):
    """One interaction that a user had."""

    user: Id = Field(examples=["u001"])
    item: Id = Field(examples=["T0001"])
    kind: Kind = "interaction"
    time: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="when, in Unix seconds; default: now", examples=[1_790_000_000]
    )
    id: Id | None = Field(
        default=None,
        description="of two posts with the same id the first one counts. Default: computed from user, item, kind and "
        "time; without a time each post counts",
    )


class PostedInteractions(RequestBody):
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
