"""Endpoints of items: similar ones, audience, search, list, add, delete, thumbnails."""

from __future__ import annotations

import hashlib
import json
import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response

from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.http.dependencies import (
    BundleOfRequest,
    KnownParameters,
    WriteAccess,
    require_known,
    require_user,
    settings_of,
)
from lmm4rec.serving.http.problems import InvalidValue, Problem, responses
from lmm4rec.serving.http.responses import card, listing
from lmm4rec.serving.http.schemas import (
    EXAMPLE_FIELDS,
    Audience,
    AudienceMember,
    Cards,
    Id,
    ItemDetail,
    ItemPage,
    ItemPath,
    K,
    Limit,
    Offset,
    TextFilter,
)
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.settings import MAX_FIELD, MAX_FIELD_NAME, MAX_FIELDS, MAX_ID, MAX_TEXT
from lmm4rec.serving.http.uploads import Upload
from lmm4rec.serving.thumbnails import SIDE, SMALLER_SIDES, smaller

router = APIRouter(tags=["items"], dependencies=[KnownParameters])
_MAX_FIELDS_JSON = 4 * MAX_FIELD * MAX_FIELDS  # characters of the JSON text of a new item's fields
_MEDIA_TYPES = {b"\xff\xd8": "image/jpeg", b"RI": "image/webp", b"\x89P": "image/png"}
_IMAGE = File(description="a JPEG, PNG, WebP or GIF image")
ForUser = Annotated[str | None, Query(max_length=MAX_ID, description="re-rank by this user's scores")]


@router.get("/similar/{item:path}", responses=responses(404, 409))
async def similar(served: BundleOfRequest, item: ItemPath, k: K = 10) -> Cards:
    """The items that are most similar to one.

    With a model without vectors (ItemKNN, EASE, …) `score` is the cosine or weight of the two items, and that of an
    added item its similarity by content, which is scaled for its place in the list.
    """
    require_known(served.bundle.items, [item])
    found = await served.run(lambda: served.bundle.similar([item], k))
    return listing(served, found[item], k)


@router.get("/audience/{item:path}", responses=responses(404))
async def audience(served: BundleOfRequest, item: ItemPath, k: Annotated[int, Query(ge=1, le=100)] = 10) -> Audience:
    """The users who get an item among their first `k`; of very many users, an even sample is tried."""
    require_known(served.bundle.items, [item])
    asked, ranks = await served.run(lambda: served.audience(item, k))
    members = [AudienceMember(id=user, rank=rank) for user, rank in ranks]
    return Audience(bundle=served.name, k=k, asked=asked, people=members)


@router.get("/search", responses=responses(404, 409))
async def search(
    served: BundleOfRequest,
    text: Annotated[
        str, Query(min_length=1, max_length=MAX_TEXT, description="what to look for", examples=["a red lamp"])
    ],
    k: K = 10,
    for_user: ForUser = None,
) -> Cards:
    """The items that are most relevant to a text."""
    return await _search(served, text, None, k, for_user)


@router.post("/search", responses=responses(404, 409))
async def search_by_image(
    request: Request,
    served: BundleOfRequest,
    image: Annotated[UploadFile, _IMAGE],
    text: Annotated[str | None, Form(max_length=MAX_TEXT, description="a text beside the image")] = None,
    k: K = 10,
    for_user: ForUser = None,
) -> Cards:
    """The items that are most relevant to an uploaded image; with a text, to both."""
    return await _search(served, text or None, await _uploaded(request, served, image), k, for_user)


async def _search(
    served: ServedBundle, text: str | None, image: ImageBytes | None, k: int, for_user: str | None
) -> Cards:
    if for_user is not None:
        require_user(served, for_user)
    found = await served.run(lambda: served.bundle.search(text, image, k, for_user))
    return listing(served, found, k)


async def _uploaded(request: Request, served: ServedBundle, file: UploadFile) -> ImageBytes:
    upload = Upload(await file.read(), settings_of(request).max_pixels)
    return await served.run(upload.normalized)


@router.get("/items", responses=responses(404))
async def items(
    served: BundleOfRequest,
    q: TextFilter = "",
    offset: Offset = 0,
    limit: Limit = 50,
    added: Annotated[bool, Query(description="only items added after the training")] = False,
) -> ItemPage:
    """The items of the catalog, then the added ones."""
    found = await served.run(lambda: served.find_items(q, added))
    page = [card(served, item, served.bundle.title(item)) for item in found[offset : offset + limit]]
    return ItemPage(bundle=served.name, total=len(found), offset=offset, items=page)


@router.post("/items", status_code=HTTPStatus.CREATED, dependencies=[WriteAccess], responses=responses(401, 404, 409))
async def add_item(
    request: Request,
    served: BundleOfRequest,
    fields: Annotated[
        str,
        Form(
            max_length=_MAX_FIELDS_JSON, description="the texts: a JSON object", examples=[json.dumps(EXAMPLE_FIELDS)]
        ),
    ] = "{}",
    id: Annotated[Id | None, Form(description="its id (default: a random one)", examples=["mug-7"])] = None,  # noqa: A002
    image: Annotated[UploadFile | None, _IMAGE] = None,
) -> ItemDetail:
    """Add an item: on response, it is on disk, and in recommendations and searches."""
    texts = _texts(fields)
    chosen = _id(id) if id is not None else f"new-{secrets.token_hex(4)}"
    upload = None if image is None else await _uploaded(request, served, image)
    if upload is None and not any(texts.values()):
        raise _invalid("body", "give a text (fields) or an image (image): its vector is computed from them")
    await served.add(chosen, texts, upload)
    return _detail(served, chosen)


def _id(id_: str) -> str:
    if id_ != id_.strip() or not id_.isprintable() or id_ in (".", ".."):
        raise _invalid("body.id", "an id has printable characters only, no space at its ends, and is not '.' or '..'")
    return id_


def _texts(text: str) -> dict[str, str]:
    """The fields of a new item, from their JSON text."""
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _invalid("body.fields", f"is not a JSON object: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise _invalid("body.fields", f"must be a JSON object of texts, such as {json.dumps(EXAMPLE_FIELDS)}")
    too_long = [name for name, value in given.items() if len(name) > MAX_FIELD_NAME or len(value) > MAX_FIELD]
    if len(given) > MAX_FIELDS or too_long:
        limits = f"{MAX_FIELDS} fields, {MAX_FIELD_NAME} characters a name, {MAX_FIELD:,} a text"
        raise _invalid("body.fields", f"is larger than allowed ({limits})")
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _invalid("body.fields", "contains half of a surrogate pair, which is not valid text") from None
    return given


def _invalid(where: str, message: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {message}", [InvalidValue(where=where, message=message)])


@router.get("/items/{item:path}", responses=responses(404))
async def item_detail(served: BundleOfRequest, item: ItemPath) -> ItemDetail:
    """One item with its texts."""
    require_known(served.bundle.items, [item])
    return _detail(served, item)


def _detail(served: ServedBundle, item: str) -> ItemDetail:
    fields = {name: text for name, text in served.bundle.fields(item).items() if text}
    return ItemDetail(**card(served, item, served.bundle.title(item)).model_dump(), fields=fields)


@router.delete(
    "/items/{item:path}",
    status_code=HTTPStatus.NO_CONTENT,
    dependencies=[WriteAccess],
    responses=responses(401, 404, 409),
)
async def delete_item(served: BundleOfRequest, item: ItemPath) -> None:
    """Delete an added item; those of the catalog cannot be deleted."""
    await served.remove(item)


@router.get(
    "/thumbnails/{item:path}",
    response_class=Response,
    responses=responses(404) | {200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def thumbnail(
    request: Request,
    served: BundleOfRequest,
    item: ItemPath,
    side: Annotated[
        int, Query(ge=1, le=1024, description="pixels of the shorter side that are needed; the answer may have more")
    ] = SIDE,
) -> Response:
    """An item's thumbnail, in one of three sizes."""
    require_known(served.bundle.items, [item])
    stored = served.bundle.thumbnail(item)
    if stored is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"item '{item[:100]}' has no image")
    content = await served.run(lambda: smaller(stored, side)) if side <= max(SMALLER_SIDES) else stored
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, max-age=60"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES.get(content[:2], "application/octet-stream"), headers=headers)
