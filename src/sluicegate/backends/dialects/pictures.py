"""Pictures in messages: OpenAI takes data URLs, Ollama bare base64."""

import binascii

from sluicegate.errors import Fault, InvalidInput

_BEGINNINGS = {
    "iVBORw0KGgo": "image/png",
    "/9j/": "image/jpeg",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}
"""The first bytes of each format in base64 (a GIF's "GIF8", a WebP's "RIFF")."""


def base64_of(url: str, path: str) -> str:
    """The base64 of a data URL. Raises `InvalidInput`, which names `path`, for any other address."""
    head, found, data = url.partition(",")
    if not url.startswith("data:"):
        raise InvalidInput.of(
            Fault(path, f'a picture at "{url[:80]}" is not fetched', "send it as data:image/png;base64,…")
        )
    if not found or not head.endswith(";base64"):
        raise InvalidInput.of(Fault(path, f'"{head[:80]}" holds no base64', "send data:image/png;base64,…"))
    _check(data, path)
    return data


def data_url_of(base64: str, path: str) -> str:
    """A data URL for base64 of a PNG, JPEG, WebP or GIF. Raises `InvalidInput`, which names `path`, for others."""
    _check(base64, path)
    for beginning, kind in _BEGINNINGS.items():
        if base64.startswith(beginning):
            return f"data:{kind};base64,{base64}"
    raise InvalidInput.of(Fault(path, "a picture of a format unknown here", "send PNG, JPEG, WebP or GIF"))


def _check(base64: str, path: str) -> None:
    try:
        data = binascii.a2b_base64(base64, strict_mode=True)
    except ValueError as error:
        raise InvalidInput.of(Fault(path, f"no base64: {error}", "send standard base64 with padding")) from None
    if not data:
        raise InvalidInput.of(Fault(path, "an empty picture", "leave it out"))
