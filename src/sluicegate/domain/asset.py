"""Assets: pictures that callers upload and jobs produce."""

from typing import Literal

import msgspec

from sluicegate.domain.ids import AssetId, Tenant

ContentType = Literal["image/png", "image/jpeg", "image/webp"]


class Blob(msgspec.Struct, frozen=True):
    """Bytes in the content-addressed store, named by their SHA-256 (hex)."""

    sha256: str
    size_bytes: int


class Picture(msgspec.Struct, frozen=True):
    """An encoded picture in memory: `data` in `content_type`, `width` × `height` pixels."""

    data: bytes
    content_type: ContentType
    width: int
    height: int


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's picture. Many assets may share one blob."""

    id: AssetId
    tenant: Tenant
    content_type: ContentType
    size_bytes: int
    width: int
    height: int
    sha256: str
    created_at: float
