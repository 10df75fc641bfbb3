"""Assets: pictures taken in and given out, checked at the door and stored by content."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator
from pathlib import Path

from sluicegate.domain.asset import Asset, Blob, Picture
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import OutputFormat
from sluicegate.domain.ids import AssetId, Tenant, new_asset_id
from sluicegate.errors import Fault, ImageRejected
from sluicegate.results import pictures
from sluicegate.storage.contracts import AssetCatalog, BlobStore

_DATA_URL = re.compile(r"^data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_ASSET_ID = re.compile(r"^asset_[0-9a-z]{26}\Z")
_CONCURRENT_DECODES = 2


class Assets:
    """Takes pictures in, hands them out. CPU-bound checks run in threads, few at a time."""

    def __init__(self, catalog: AssetCatalog, blobs: BlobStore, clock: Clock, *, max_pixels: int) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._clock = clock
        self._max_pixels = max_pixels
        self._decodes = asyncio.Semaphore(_CONCURRENT_DECODES)

    async def accept_upload(self, tenant: Tenant, chunks: AsyncIterator[bytes], *, field: str = "file") -> Asset:
        """Check and store an uploaded picture as it streams in.

        Raises `ImageRejected`, and whatever `chunks` raises; then nothing is left behind.
        """
        async with self._blobs.stage() as staging:
            async for chunk in chunks:
                await staging.write(chunk)
            info = await self._inspect(staging.path, field)
            blob = await staging.commit()
        return await self._catalogue(tenant, blob, info)

    async def check(self, data: bytes, *, field: str) -> "pictures.PictureInfo":
        """Look at a picture without storing it. Raises `ImageRejected`."""
        return await self._inspect(data, field)

    async def record(self, tenant: Tenant, picture: Picture) -> Asset:
        """Store a picture that is known to be sound and catalogue it."""
        blob = await self._blobs.put(picture.data)
        return await self._catalogue(tenant, blob, picture)

    async def prepare(self, tenant: Tenant, picture: Picture) -> Asset:
        """Store a picture's bytes; the caller catalogues the asset (a worker does, together with its job's end)."""
        blob = await self._blobs.put(picture.data)
        return self._asset(tenant, blob, picture)

    async def get(self, tenant: Tenant, asset: AssetId) -> Asset:
        """The asset. Raises `UnknownAsset`."""
        return await self._catalog.asset(tenant, asset)

    async def read(self, asset: Asset) -> bytes:
        """All bytes of an asset."""
        return await self._blobs.read(asset.sha256)

    def stream(self, asset: Asset, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes of an asset from `start`, in chunks."""
        return self._blobs.stream(asset.sha256, start, length)

    async def thumbnail(self, asset: Asset, *, width: int, output_format: OutputFormat) -> Picture:
        """The asset at most `width` pixels wide."""
        data = await self.read(asset)
        async with self._decodes:
            return await asyncio.to_thread(pictures.thumbnail, data, width=width, format=output_format)

    async def delete(self, tenant: Tenant, asset: AssetId) -> None:
        """Forget an asset. Raises `UnknownAsset`, or `Conflict` while a job needs it."""
        await self._catalog.delete_asset(tenant, asset)

    async def _inspect(self, source: bytes | Path, field: str) -> "pictures.PictureInfo":
        async with self._decodes:
            return await asyncio.to_thread(pictures.inspect, source, max_pixels=self._max_pixels, field=field)

    async def _catalogue(self, tenant: Tenant, blob: Blob, info: "pictures.PictureInfo | Picture") -> Asset:
        asset = self._asset(tenant, blob, info)
        await self._catalog.add_asset(asset)
        return asset

    def _asset(self, tenant: Tenant, blob: Blob, info: "pictures.PictureInfo | Picture") -> Asset:
        return Asset(
            id=new_asset_id(),
            tenant=tenant,
            content_type=info.content_type,
            size_bytes=blob.size_bytes,
            width=info.width,
            height=info.height,
            sha256=blob.sha256,
            created_at=self._clock.now(),
        )


def as_asset_id(reference: str) -> AssetId | None:
    """The asset id that an image field holds, or None when it holds the picture itself."""
    return AssetId(reference) if _ASSET_ID.match(reference) else None


def decode_reference(reference: str, *, field: str) -> bytes:
    """The bytes of a data URL or of plain base64. Raises `ImageRejected`."""
    text = reference.strip()
    if text.startswith(("http://", "https://")):
        mend = "upload it to /v1/assets, or send a data URL"
        raise ImageRejected.of(Fault(field, "pictures are not fetched from addresses", mend))
    if text.startswith("data:"):
        found = _DATA_URL.match(text)
        if not found:
            raise ImageRejected.of(Fault(field, f'"{text[:40]}…" is not a data URL of a picture', _FORMS))
        text = text[found.end() :]
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ImageRejected.of(Fault(field, f'"{reference[:40]}" is neither an asset id nor base64', _FORMS)) from None


_FORMS = "send asset_…, data:image/png;base64,… or plain base64"
