"""Items: what is like them, searching, adding, listing, deleting, thumbnails."""

from __future__ import annotations

import hashlib
import json
import secrets
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import Response

from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.http.dependencies import Bundled, Writer, check, settings_of
from lmm4rec.serving.http.problems import Place, Problem, responses
from lmm4rec.serving.http.responses import card, cards
from lmm4rec.serving.http.schemas import (
    EXAMPLE_FIELDS,
    Audience,
    Cards,
    Getter,
    Id,
    ItemDetail,
    ItemPage,
    ItemPath,
    K,
    Limit,
    Offset,
    Words,
)
from lmm4rec.serving.http.served_bundle import Served
from lmm4rec.serving.http.settings import MAX_FIELD, MAX_FIELD_NAME, MAX_FIELDS, MAX_ID, MAX_WORDS
from lmm4rec.serving.http.uploads import Upload

router = APIRouter(tags=["items"])
_FIELDS_TEXT = 4 * MAX_FIELD * MAX_FIELDS  # characters of the JSON text of a new item's fields
_KINDS = {b"\xff\xd8": "image/jpeg", b"RI": "image/webp", b"\x89P": "image/png"}
_PICTURE = File(description="a JPEG, PNG, WebP or GIF picture")
ForUser = Annotated[str | None, Query(max_length=MAX_ID, description="mix in what this user likes")]


@router.get("/similar/{item:path}", responses=responses(404, 409))
async def similar(served: Bundled, item: ItemPath, k: K = 10) -> Cards:
    """The items that are most like one."""
    check(served.bundle.items, [item])
    found = await served.run(lambda: served.bundle.similar([item], k))
    return Cards(bundle=served.name, items=cards(served, found[item]))


@router.get("/audience/{item:path}", responses=responses(404))
async def audience(served: Bundled, item: ItemPath, k: Annotated[int, Query(ge=1, le=100)] = 10) -> Audience:
    """The users who get an item among their first ones; of very many users some are drawn evenly."""
    check(served.bundle.items, [item])
    asked, ranks = await served.run(lambda: served.audience(item, k))
    people = [Getter(id=user, rank=rank) for user, rank in ranks]
    return Audience(bundle=served.name, k=k, asked=asked, people=people)


@router.get("/search", responses=responses(404, 409))
async def search(
    served: Bundled,
    text: Annotated[str, Query(min_length=1, max_length=MAX_WORDS, description="words", examples=["a red lamp"])],
    k: K = 10,
    for_user: ForUser = None,
) -> Cards:
    """The items that words describe."""
    return await _search(served, text, None, k, for_user)


@router.post("/search", responses=responses(404, 409))
async def search_by_picture(
    request: Request,
    served: Bundled,
    image: Annotated[UploadFile, _PICTURE],
    text: Annotated[str | None, Form(max_length=MAX_WORDS, description="words beside it")] = None,
    k: K = 10,
    for_user: ForUser = None,
) -> Cards:
    """The items that look like an uploaded picture; with words, those that fit both."""
    return await _search(served, text or None, await _picture(request, served, image), k, for_user)


async def _search(served: Served, text: str | None, image: ImageBytes | None, k: int, for_user: str | None) -> Cards:
    if for_user is not None:
        check(served.bundle.users, [for_user])
    found = await served.run(lambda: served.bundle.search(text, image, k, for_user))
    return Cards(bundle=served.name, items=cards(served, found))


async def _picture(request: Request, served: Served, file: UploadFile) -> ImageBytes:
    upload = Upload(await file.read(), settings_of(request).max_pixels)
    return await served.run(upload.normalized)


@router.get("/items", responses=responses(404))
async def items(
    served: Bundled,
    q: Words = "",
    offset: Offset = 0,
    limit: Limit = 50,
    added: Annotated[bool, Query(description="only what was added after the training")] = False,
) -> ItemPage:
    """The items, the added ones last."""
    found = await served.run(lambda: served.find_items(q, added))
    page = [card(served, item, served.bundle.title(item)) for item in found[offset : offset + limit]]
    return ItemPage(bundle=served.name, total=len(found), offset=offset, items=page)


@router.post("/items", status_code=HTTPStatus.CREATED, dependencies=[Writer], responses=responses(401, 404, 409))
async def add_item(
    request: Request,
    served: Bundled,
    fields: Annotated[
        str,
        Form(max_length=_FIELDS_TEXT, description="the texts: a JSON object", examples=[json.dumps(EXAMPLE_FIELDS)]),
    ] = "{}",
    id: Annotated[Id | None, Form(description="its id (default: one is made up)", examples=["mug-7"])] = None,  # noqa: A002
    image: Annotated[UploadFile | None, _PICTURE] = None,
) -> ItemDetail:
    """Add an item: it is on disk, searchable and recommended when the answer comes."""
    texts = _texts(fields)
    chosen = _id(id) if id is not None else f"new-{secrets.token_hex(4)}"
    picture = None if image is None else await _picture(request, served, image)
    if picture is None and not any(texts.values()):
        raise _wrong("body", "give words (fields) or a picture (image): nothing else tells what the item is like")
    await served.add(chosen, texts, picture)
    return _detail(served, chosen)


def _id(id_: str) -> str:
    if id_ != id_.strip() or not id_.isprintable() or id_ in (".", ".."):
        raise _wrong("body.id", "an id has printable characters, no space at its ends, and is not '.' or '..'")
    return id_


def _texts(text: str) -> dict[str, str]:
    """The fields of a new item, from their JSON text."""
    try:
        given = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _wrong("body.fields", f"is no JSON object: {error}") from None
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise _wrong("body.fields", f"must be a JSON object of texts, such as {json.dumps(EXAMPLE_FIELDS)}")
    long = [name for name, value in given.items() if len(name) > MAX_FIELD_NAME or len(value) > MAX_FIELD]
    if len(given) > MAX_FIELDS or long:
        limits = f"{MAX_FIELDS} fields, {MAX_FIELD_NAME} characters a name, {MAX_FIELD:,} a text"
        raise _wrong("body.fields", f"has more than is taken ({limits})")
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _wrong("body.fields", "holds half of a surrogate pair, which is no text") from None
    return given


def _wrong(where: str, message: str) -> Problem:
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {message}", [Place(where=where, message=message)])


@router.get("/items/{item:path}", responses=responses(404))
async def item_detail(served: Bundled, item: ItemPath) -> ItemDetail:
    """One item with its words."""
    check(served.bundle.items, [item])
    return _detail(served, item)


def _detail(served: Served, item: str) -> ItemDetail:
    fields = {name: text for name, text in served.bundle.fields(item).items() if text}
    return ItemDetail(**card(served, item, served.bundle.title(item)).model_dump(), fields=fields)


@router.delete(
    "/items/{item:path}", status_code=HTTPStatus.NO_CONTENT, dependencies=[Writer], responses=responses(401, 404, 409)
)
async def delete_item(served: Bundled, item: ItemPath) -> None:
    """Delete an item that was added."""
    await served.remove(item)


@router.get(
    "/thumbnails/{item:path}",
    response_class=Response,
    responses=responses(404) | {200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def thumbnail(request: Request, served: Bundled, item: ItemPath) -> Response:
    """An item's small picture."""
    check(served.bundle.items, [item])
    content = served.bundle.thumbnail(item)
    if content is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"item '{item[:100]}' has no picture")
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "private, max-age=60"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=_KINDS.get(content[:2], "application/octet-stream"), headers=headers)
