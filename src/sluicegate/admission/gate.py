"""The gate: every request passes here and comes out with a principal."""

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from sluicegate.domain.fairness import Tier
from sluicegate.domain.principal import LOCAL_TENANT, Principal
from sluicegate.errors import InvalidRequest, OriginRefused

_MOST_REMEMBERED = 1_000
_LONGEST_REMEMBERED = 300


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(url: str, header: str) -> str:
    """The host name in an address; empty when it has none. Raises `InvalidRequest` for what is no address."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        raise InvalidRequest(f'the {header} header "{url[:100]}" is no address') from None


def _authority(origin: str) -> str:
    return urlsplit(origin).netloc


class Gate:
    """Admits callers as the tenant `local` until keys exist, and keeps foreign web pages out.

    A page in the user's browser can reach a server on loopback. Two checks stop it: an `Origin` must be this
    server's own or allowed by ``server.cors_origins``; and on loopback the `Host` must name this machine, so that
    a foreign name that was made to point here (DNS rebinding) is refused.
    """

    def __init__(self, *, host: str, cors_origins: Collection[str], local_tier: Tier) -> None:
        self._local = Principal(LOCAL_TENANT, local_tier)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in cors_origins)
        self._allowed_hosts = frozenset(urlsplit(origin).hostname or "" for origin in self._origins)
        self._loopback = is_loopback(host)
        self._admitted: dict[tuple[bytes | None, bytes | None], Principal] = {}

    def admit_fields(self, fields: Mapping[bytes, bytes]) -> Principal:
        """As `admit`, for headers as they came, names in lower case; what was admitted is remembered."""
        key = (fields.get(b"host"), fields.get(b"origin"))
        principal = self._admitted.get(key)
        if principal is None:
            names = {"host": key[0], "origin": key[1]}
            given = {name: value.decode("latin-1") for name, value in names.items() if value is not None}
            principal = self.admit(given)
            size = len(key[0] or b"") + len(key[1] or b"")
            if len(self._admitted) < _MOST_REMEMBERED and size < _LONGEST_REMEMBERED:
                self._admitted[key] = principal
        return principal

    def admit(self, headers: Mapping[str, str]) -> Principal:
        """Say on whose behalf the request acts. Raises `OriginRefused`, or `InvalidRequest` for a broken header."""
        host = headers.get("host", "").lower()
        name = _host_name(f"//{host}", "Host")
        if self._loopback and name and not is_loopback(name) and name not in self._allowed_hosts:
            raise OriginRefused(
                f'the Host "{host}" does not name this machine; call it as 127.0.0.1 or localhost, '
                f'or add "https://{name}" to server.cors_origins'
            )
        origin = headers.get("origin", "").rstrip("/").lower()
        if origin and origin not in self._origins and (not _host_name(origin, "Origin") or _authority(origin) != host):
            raise OriginRefused(
                f'pages of "{origin}" may not call this gateway; add it to server.cors_origins to allow it'
            )
        return self._local
