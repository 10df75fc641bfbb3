"""``/v1/assets``: pictures in and out."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.datastructures import UploadFile
from starlette.responses import Response

from sluicegate.domain.asset import Asset
from sluicegate.domain.generation import OutputFormat
from sluicegate.domain.ids import AssetId
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.jobs.rendering import AssetView, view_asset
from sluicegate.doors.streams import StreamAnswer
from sluicegate.doors.uploads import FORM, content_kind, file_pieces, open_form
from sluicegate.errors import Fault, InvalidInput
from sluicegate.results.assets import Assets

_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})\Z")
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
}
_FOREVER = "private, max-age=31536000, immutable"


class ThumbnailQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`w` is the greatest width in pixels."""

    w: Annotated[int, Meta(ge=16, le=1024)] = 256
    format: OutputFormat = "webp"


class AssetsDoor:
    """Serves assets."""

    def __init__(self, assets: Assets, *, max_upload_bytes: int) -> None:
        self._assets = assets
        self._max_upload_bytes = max_upload_bytes

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/v1/assets",
                handler=self.upload,
                dialect="native",
                tag="Assets",
                summary="Upload a picture",
                description="The body is the picture itself, or multipart/form-data with a field `file`. "
                "PNG, JPEG and WebP are taken.",
                body="image/*",
                answers={201: AssetView},
            ),
            Endpoint(
                method="GET",
                path="/v1/assets/{asset}",
                handler=self.download,
                dialect="native",
                tag="Assets",
                summary="Download a picture",
                description="Answers range requests; the ETag is the SHA-256 of the bytes, which never change.",
                answers={200: "image/*", 206: "image/*", 304: None, 416: None},
            ),
            Endpoint(
                method="GET",
                path="/v1/assets/{asset}/thumbnail",
                handler=self.thumbnail,
                dialect="native",
                tag="Assets",
                summary="A small version of a picture",
                query=ThumbnailQuery,
                answers={200: "image/*", 304: None},
            ),
            Endpoint(
                method="DELETE",
                path="/v1/assets/{asset}",
                handler=self.delete,
                dialect="native",
                tag="Assets",
                summary="Delete a picture",
                answers={204: None},
            ),
        ]

    async def upload(self, call: Call) -> Answer:
        """Store a picture."""
        if content_kind(call) == FORM:
            asset = await self._upload_form(call)
        else:
            body = call.pieces(self._max_upload_bytes, "server.max_upload_bytes")
            asset = await self._assets.accept_upload(call.principal.tenant, body, field="body")
        view = view_asset(asset, call.base_url)
        return json_response(view, 201, {"location": view.url})

    async def download(self, call: Call) -> Answer:
        """The picture's bytes, or a part of them."""
        asset = await self._find(call)
        etag = f'"{asset.sha256}"'
        headers = {
            **_SAFE_HEADERS,
            "content-type": asset.content_type,
            "etag": etag,
            "cache-control": _FOREVER,
            "accept-ranges": "bytes",
            "content-disposition": f'inline; filename="{asset.id}.{asset.content_type.removeprefix("image/")}"',
        }
        if _matches(call, etag):
            return Response(status_code=304, headers={"etag": etag, "cache-control": _FOREVER})
        part = _range(call, asset.size_bytes, etag)
        if part == "unsatisfiable":
            return Response(status_code=416, headers={"content-range": f"bytes */{asset.size_bytes}"})
        start, length, status = (0, asset.size_bytes, 200) if part is None else (*part, 206)
        headers["content-length"] = str(length)
        if status == 206:
            headers["content-range"] = f"bytes {start}-{start + length - 1}/{asset.size_bytes}"
        chunks = await _begun(self._assets.stream(asset, start, length))
        return StreamAnswer(chunks, status=status, headers=headers)

    async def thumbnail(self, call: Call) -> Answer:
        """A small version, made anew; the ETag spares the making."""
        query = call.query(ThumbnailQuery)
        asset = await self._find(call)
        etag = f'"{asset.sha256}-{query.w}-{query.format}"'
        headers = {**_SAFE_HEADERS, "etag": etag, "cache-control": _FOREVER}
        if _matches(call, etag):
            return Response(status_code=304, headers=headers)
        picture = await self._assets.thumbnail(asset, width=query.w, output_format=query.format)
        return Response(picture.data, 200, {**headers, "content-type": picture.content_type})

    async def delete(self, call: Call) -> Answer:
        """Forget the asset. Raises `UnknownAsset`, or `Conflict` while a job needs it."""
        await self._assets.delete(call.principal.tenant, AssetId(call.path("asset")))
        return Response(status_code=204)

    async def _find(self, call: Call) -> Asset:
        return await self._assets.get(call.principal.tenant, AssetId(call.path("asset")))

    async def _upload_form(self, call: Call) -> Asset:
        async with open_form(call, max_bytes=self._max_upload_bytes, max_files=1, max_fields=8) as form:
            file = form.get("file") or form.get("image")
            if not isinstance(file, UploadFile):
                got = ", ".join(form) or "no fields"
                raise InvalidInput.of(Fault("file", f"the form has no file of this name ({got})", "-F file=@in.png"))
            return await self._assets.accept_upload(call.principal.tenant, file_pieces(file), field="file")


async def _begun(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The chunks, the first of them already read: bytes that are gone are told before the head is sent."""
    first = await anext(chunks, b"")

    async def rest() -> AsyncGenerator[bytes, None]:
        yield first
        async for chunk in chunks:
            yield chunk

    return rest()


def _matches(call: Call, etag: str) -> bool:
    """Whether the caller has this very version (RFC 9110, section 13.1.2)."""
    names = {name.strip().removeprefix("W/") for name in call.headers.get("if-none-match", "").split(",")}
    return etag in names or "*" in names


def _range(call: Call, size: int, etag: str) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """Start and length of the one range asked for (RFC 9110, section 14); None means everything."""
    found = _RANGE.match(call.headers.get("range", ""))
    if not found or call.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else "unsatisfiable"
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    return (start, end - start + 1) if start < size else "unsatisfiable"
