"""Reading the settings. Sources, later wins: defaults, the TOML file, the environment (``SLUICEGATE__SECTION__FIELD``,
`.env` included), command-line flags. Every fault is reported at once.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sluicegate.domain.validation import did_you_mean, find_faults
from sluicegate.errors import Fault, InvalidSettings
from sluicegate.settings.tree import BUILT_IN_TIERS, POSTGRES_SCHEMES, Settings, without_password

ENVIRONMENT_PREFIX = "SLUICEGATE__"
DEFAULT_FILE = "sluicegate.toml"
_LISTS = frozenset({"server.cors_origins", "worker.pools"})
_ADDRESSES = {
    "openai": "http://127.0.0.1:9000/v1",
    "vllm": "http://gpu1:8000/v1",
    "ollama": "http://127.0.0.1:11434",
}
_TIER_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}\Z")


def load_settings(
    file: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read, merge and validate the settings.

    `file` None takes ``sluicegate.toml`` of the working directory when it is there. `overrides` are flags by
    dotted path (``{"server.port": 9000}``); None values are skipped. Raises `InvalidSettings` with every fault.
    """
    environment = os.environ if environment is None else environment
    tree, source = _read_file(file)
    faults = [*_find_secrets(tree.get("storage"))]
    lax = _apply_environment(tree, environment, faults)
    for path, value in (overrides or {}).items():
        if value is not None:
            _set(tree, path.split("."), value)
    _add_built_in_tiers(tree)
    faults += find_faults(tree, Settings, lax=lax)
    faults += _cross_check(tree, environment)
    if faults:
        raise InvalidSettings(faults, source=source)
    return msgspec.convert(tree, Settings, strict=not lax)


def _read_file(file: Path | None) -> tuple[dict[str, Any], str]:
    path = file or Path(DEFAULT_FILE)
    if file is None and not path.exists():
        return {}, "settings (defaults, environment, flags)"
    try:
        return tomllib.loads(path.read_text("utf-8")), str(path)
    except FileNotFoundError:
        raise InvalidSettings([Fault("", "no such file", "check --config")], source=str(path)) from None
    except OSError as error:
        raise InvalidSettings([Fault("", f"cannot be read: {error.strerror}")], source=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings([Fault("", f"not valid TOML: {error}")], source=str(path)) from error


def _apply_environment(tree: dict[str, Any], environment: Mapping[str, str], faults: list[Fault]) -> set[str]:
    """Put ``SLUICEGATE__A__B=text`` at a.b; the paths set this way may be converted from text."""
    lax: set[str] = set()
    for variable, text in environment.items():
        if not variable.upper().startswith(ENVIRONMENT_PREFIX):
            continue
        path = variable[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        if path[0] == "backends":
            faults.append(Fault(variable, "backends cannot be set by variables", "use the settings file"))
            continue
        dotted = ".".join(path)
        lax.add(dotted)
        is_list = dotted in _LISTS
        _set(tree, path, [item.strip() for item in text.split(",") if item.strip()] if is_list else text)
    return lax


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[path[-1]] = value


def _add_built_in_tiers(tree: dict[str, Any]) -> None:
    """Complete the tiers that are there without being written down by what they grant."""
    tiers = tree.setdefault("tiers", {})
    if not isinstance(tiers, dict):
        return
    for name, built_in in BUILT_IN_TIERS.items():
        written = tiers.setdefault(name, {})
        if not isinstance(written, dict):
            continue
        granted = msgspec.to_builtins(built_in)
        limits = written.get("limits", {})
        if isinstance(limits, dict):
            written["limits"] = granted["limits"] | limits
        tiers[name] = granted | written


def _cross_check(tree: Mapping[str, Any], environment: Mapping[str, str]) -> list[Fault]:
    """Rules over more than one field. The tree may still be malformed: look with care."""
    listed = tree.get("backends")
    backends = [table for table in listed if isinstance(table, dict)] if isinstance(listed, list) else []
    server, worker = tree.get("server"), tree.get("worker")
    return [
        *_check_backends(backends, environment),
        *_check_storage(tree.get("storage")),
        *_check_tiers(tree.get("tiers"), server if isinstance(server, dict) else {}),
        *_check_models(backends),
        *_check_worker(worker if isinstance(worker, dict) else {}),
        *_check_tls(server.get("tls") if isinstance(server, dict) else None),
    ]


def _check_backends(backends: Sequence[Mapping[str, Any]], environment: Mapping[str, str]) -> Iterator[Fault]:
    names: set[str] = set()
    for index, table in enumerate(backends):
        path = f"backends[{index}]"
        name = table.get("name")
        if name in names:
            yield Fault(f"{path}.name", f'"{name}" is taken by an earlier backend', "give it another name")
        names.add(str(name))
        yield from _check_url(f"{path}.url", table.get("kind"), table.get("url", ""))
        variable = table.get("api_key_env")
        if isinstance(variable, str) and variable and not environment.get(variable):
            mend = did_you_mean(variable, environment) or ""
            message = f'the environment has no "{variable}"'
            yield Fault(f"{path}.api_key_env", message, mend if "mean" in mend else None)


def _check_url(path: str, kind: Any, url: Any) -> Iterator[Fault]:
    """The address of a backend elsewhere; an Ollama server is named by its root, not by one of its two dialects."""
    if not isinstance(kind, str) or kind not in _ADDRESSES:
        return
    if not isinstance(url, str) or not _is_http(url):
        yield Fault(path, f'expected an http or https address, got "{url}"', f'write for example "{_ADDRESSES[kind]}"')
        return
    root = url.rstrip("/")
    for end in ("/api", "/v1"):
        if kind == "ollama" and root.endswith(end):
            message = f'expected the root of an Ollama server, got "{url}"'
            yield Fault(path, message, f'write "{root.removesuffix(end)}", or kind = "openai" for its /v1')


def _check_tiers(tiers: Any, server: Mapping[str, Any]) -> Iterator[Fault]:
    if not isinstance(tiers, dict):
        return
    for name in tiers:
        if not _TIER_NAME.match(str(name)):
            mend = "small letters, digits, _ and - only, at most 64, beginning with a letter or digit"
            yield Fault(f"tiers.{name}"[:100], "not the name of a tier", mend)
    chosen = server.get("local_tier", "local")
    if isinstance(chosen, str) and chosen not in tiers:
        yield Fault("server.local_tier", f'no tier "{chosen}"', did_you_mean(chosen, [str(name) for name in tiers]))


def _check_models(backends: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    """A picture model stands in one backend only: its jobs wait in that one's pool."""
    earlier: list[tuple[int, list[str]]] = []
    for index, table in enumerate(backends):
        listed = table.get("models", [])
        if table.get("kind") != "local-image" or not isinstance(listed, list):
            continue
        models = [str(model) for model in listed]
        for other, others in earlier:
            shared = [model for model in models or others if not others or model in others]
            if shared or not models:
                named = " and ".join(f'"{model}"' for model in dict.fromkeys(shared))
                words = (
                    f"{named} {'stand' if ' and ' in named else 'stands'}" if shared else "every built-in model stands"
                )
                mend = "give each its own `models`"
                yield Fault(f"backends[{index}].models", f"{words} in backends[{other}] and backends[{index}]", mend)
        earlier.append((index, models))


def _check_worker(worker: Mapping[str, Any]) -> Iterator[Fault]:
    lease, beat = worker.get("lease_seconds", 15.0), worker.get("heartbeat_seconds", 5.0)
    if isinstance(lease, int | float) and isinstance(beat, int | float) and beat * 2 > lease:
        mend = f"at most {lease / 2:g}, half of lease_seconds"
        yield Fault("worker.heartbeat_seconds", f"{beat:g} is too long for a lease of {lease:g}", mend)
    listed = worker.get("pools", ())
    pools = [pool for pool in listed if isinstance(pool, str)] if isinstance(listed, list | tuple) else []
    for index, pool in enumerate(pools):
        if pool in pools[:index]:
            yield Fault(f"worker.pools[{index}]", f'"{pool}" stands there already', "name each pool once")


def _check_tls(tls: Any) -> Iterator[Fault]:
    if not isinstance(tls, dict):
        return
    for field, other in (("certificate", "key"), ("key", "certificate")):
        value = tls.get(field, "")
        if not isinstance(value, str):
            continue
        if not value and tls.get(other):
            yield Fault(f"server.tls.{field}", "missing; encryption needs both files", f"name the {field}'s file")
        elif value and not Path(value).is_file():
            yield Fault(f"server.tls.{field}", f'no file "{value}"', "give the path of a file in PEM form")


def _find_secrets(storage: Any) -> Iterator[Fault]:
    """A password in the file; whoever reads a settings file should find none."""
    url = storage.get("url") if isinstance(storage, dict) else None
    if isinstance(url, str) and url != without_password(url):
        mend = (
            "leave it out and set PGPASSWORD, keep it in ~/.pgpass, or set SLUICEGATE__STORAGE__URL in the environment"
        )
        yield Fault("storage.url", f'a password stands in the file: "{without_password(url)}"', mend)


def _check_storage(storage: Any) -> Iterator[Fault]:
    if not isinstance(storage, dict):
        return
    forms = {
        "url": (("sqlite:///", *POSTGRES_SCHEMES), "sqlite:///… or postgresql://…", "postgresql://sluicegate@db1/jobs"),
        "assets": (("file:///",), "file:///…", "file:///var/assets"),
    }
    for field, (starts, form, example) in forms.items():
        value = storage.get(field, "")
        if not isinstance(value, str) or not value:
            continue
        mend = f'write for example "{example}"'
        if value.startswith(POSTGRES_SCHEMES) and _has_stray_at(value):
            reason = f'an "@" that ends no user and password in "{without_password(value)}"'
            mend = 'percent-encode what is special in passwords and parameters: "@" as %40, "/" %2F, "#" %23, "?" %3F'
            yield Fault(f"storage.{field}", reason, mend)
        elif not value.startswith(starts):
            yield Fault(f"storage.{field}", f'expected {form}, got "{without_password(value)}"', mend)
        elif value.startswith(POSTGRES_SCHEMES) and (reason := _wrong_in_address(value)):
            yield Fault(f"storage.{field}", f'{reason} in "{without_password(value)}"', mend)


def _has_stray_at(url: str) -> bool:
    """Whether an "@" follows the first one, or the part of the address in which that one belongs."""
    before, _, after = url.partition("://")[2].partition("@")
    return "@" in after or (bool(after) and any(mark in before for mark in "/?#"))


def _wrong_in_address(url: str) -> str:
    """What is wrong with an address of PostgreSQL; empty when nothing is. A list of hosts is left to the driver."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a host that cannot be read"
    try:
        is_port = "," in parts.netloc or parts.port != 0
    except ValueError:
        is_port = False
    if not is_port:
        return "no port from 1 to 65535"
    try:
        parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return "parameters that are not name=value"
    return "" if parts.netloc or parts.path.strip("/") or parts.query else "neither host nor database"


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
