"""Where an upstream is, out of its base address."""

import base64
from urllib.parse import unquote_to_bytes, urlsplit

import msgspec


class Address(msgspec.Struct, frozen=True):
    """A server and the folder on it that calls go to."""

    host: str
    """Name or number to connect to; an IPv6 number is without brackets."""
    port: int
    is_secure: bool
    authority: str
    """What the Host header says, and what messages show: never the user and password of the address."""
    folder: str
    """Path in front of every call, without a slash at its end: ``/v1``, or nothing."""
    credentials: str = ""
    """The address's user and password as the Authorization header says them (RFC 7617)."""

    @classmethod
    def parse(cls, base_url: str) -> "Address":
        """Read ``http[s]://[user:password@]host[:port][/folder]``. Raises `ValueError` for anything else."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("expected an http or https address")
        is_secure = parts.scheme == "https"
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
        userinfo, _, _ = parts.netloc.rpartition("@")
        shown = f"[{host}]" if ":" in host else host
        folder = parts.path.rstrip("/")
        if not _is_plain(folder) or not _is_plain(shown):
            raise ValueError("expected an address without spaces and control characters")
        return cls(
            host=host,
            port=parts.port or (443 if is_secure else 80),
            is_secure=is_secure,
            authority=f"{shown}:{parts.port}" if parts.port else shown,
            folder=folder,
            credentials=f"Basic {base64.b64encode(unquote_to_bytes(userinfo)).decode()}" if userinfo else "",
        )

    def target(self, path: str) -> str:
        """The request target of a path below `folder`, or, when it begins with a slash, below the server's root.

        Raises `ValueError` for a path that cannot stand in a request line.
        """
        target = path if path.startswith("/") else f"{self.folder}/{path}"
        if not _is_plain(target):
            raise ValueError(f"cannot ask for the path {target!r}: it has spaces, control or non-ASCII characters")
        return target


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
