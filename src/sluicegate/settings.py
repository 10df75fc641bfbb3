"""The settings: one frozen tree, validated as a whole before anything starts.

Sources, later wins: defaults, the TOML file, the environment (``SLUICEGATE__SECTION__FIELD``, `.env` included),
command-line flags. Every fault is reported at once. Rooms never read this module's loader: each receives
its slice by constructor.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from sluicegate.domain.validation import did_you_mean, find_faults
from sluicegate.errors import Fault, InvalidSettings

ENVIRONMENT_PREFIX = "SLUICEGATE__"
DEFAULT_FILE = "sluicegate.toml"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        extra={"hint": "letters, digits and . _ - only, at most 64, beginning with a letter or digit"},
    ),
]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file; unknown fields are faults."""


class ServerSettings(_Section, frozen=True, kw_only=True):
    """The HTTP server."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8000
    max_streams: Annotated[int, Meta(ge=1, description="Chat calls relayed at once; more get 503.")] = 2_000
    max_body_bytes: Annotated[int, Meta(ge=1_024, description="Largest JSON body, in bytes.")] = 16_000_000
    max_upload_bytes: Annotated[int, Meta(ge=1_024, description="Largest uploaded picture, in bytes.")] = 100_000_000
    client_idle_seconds: Annotated[
        Seconds, Meta(description="How long a caller may pause while it sends a body or takes a chat answer.")
    ] = 60.0
    drain_seconds: Annotated[Seconds, Meta(description="After SIGTERM, how long running work may take to end.")] = 30.0
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Web origins, such as https://app.example, whose pages may call this gateway."),
    ] = ()


class StorageSettings(_Section, frozen=True, kw_only=True):
    """Where state and pictures are kept. Empty fields mean: in the data directory."""

    url: Annotated[str, Meta(description="sqlite:///path/to/file.db; empty: DATA_DIR/sluicegate.db.")] = ""
    assets: Annotated[str, Meta(description="file:///path/to/folder; empty: DATA_DIR/assets.")] = ""


class TimeoutSettings(_Section, frozen=True, kw_only=True):
    """How long a backend may take, in seconds."""

    connect: Annotated[Seconds, Meta(description="To make a connection.")] = 5.0
    first_byte: Annotated[Seconds, Meta(description="From the request sent to the head of the answer.")] = 120.0
    idle: Annotated[Seconds, Meta(description="Between two pieces of a streamed answer.")] = 60.0
    total: Annotated[Seconds, Meta(description="For the whole call.")] = 600.0


BackendKind = Literal["openai", "local-llm", "local-image"]


class BackendSettings(_Section, frozen=True, kw_only=True):
    """One backend, a ``[[backends]]`` table."""

    name: Annotated[Name, Meta(description="A unique name, shown in health, metrics and jobs.")]
    kind: Annotated[BackendKind, Meta(description="Which adapter serves it.")]
    url: Annotated[str, Meta(description="kind openai: base address, such as http://gpu1:8000/v1.")] = ""
    api_key_env: Annotated[str, Meta(description="Environment variable that holds the backend's key.")] = ""
    models: Annotated[tuple[str, ...], Meta(description="Models to serve; empty: all that the backend names.")] = ()
    max_concurrency: Annotated[
        int, Meta(ge=1, le=100_000, description="Calls at once; local-llm takes at most 16.")
    ] = 100
    threads: Annotated[int, Meta(ge=1, le=256, description="local kinds: CPU threads for one piece of work.")] = 1
    timeout_seconds: TimeoutSettings = TimeoutSettings()


class WorkerSettings(_Section, frozen=True, kw_only=True):
    """The processes that run picture jobs."""

    processes: Annotated[int, Meta(ge=0, le=256, description="Worker processes started by `serve`.")] = 1
    lease_seconds: Annotated[Seconds, Meta(description="A worker silent for so long loses its job.")] = 15.0
    heartbeat_seconds: Annotated[Seconds, Meta(description="How often a worker renews its leases.")] = 5.0
    max_attempts: Annotated[int, Meta(ge=1, le=100, description="Tries at a job before it has failed.")] = 3
    job_timeout_seconds: Annotated[Seconds, Meta(description="Longest run of one attempt.")] = 600.0
    max_pixels: Annotated[int, Meta(ge=256, description="Most pixels (width x height) of a picture taken in.")] = (
        40_000_000
    )


class ResultsSettings(_Section, frozen=True, kw_only=True):
    """What is made."""

    prompts_in_pictures: Annotated[
        bool, Meta(description="Let a PNG carry the prompt that made it, beside its model, seed and steps.")
    ] = False


class ObservabilitySettings(_Section, frozen=True, kw_only=True):
    """Logs."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level that is written.")
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "console"], Meta(description="auto: console on a terminal, else json.")
    ] = "auto"


def _default_backends() -> tuple[BackendSettings, ...]:
    return (
        BackendSettings(name="local-llm", kind="local-llm", max_concurrency=8),
        BackendSettings(name="local-image", kind="local-image"),
    )


class Settings(_Section, frozen=True, kw_only=True):
    """The whole tree."""

    data_dir: Annotated[str, Meta(min_length=1, description="Folder for the database and the pictures.")] = (
        "sluicegate-data"
    )
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    backends: Annotated[
        tuple[BackendSettings, ...], Meta(description="Who does the work; absent: the built-in models.")
    ] = msgspec.field(default_factory=_default_backends)
    worker: WorkerSettings = WorkerSettings()
    results: ResultsSettings = ResultsSettings()
    observability: ObservabilitySettings = ObservabilitySettings()

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.storage.url.removeprefix("sqlite:///") or Path(self.data_dir) / "sluicegate.db").absolute()

    @property
    def assets_path(self) -> Path:
        """The folder of pictures."""
        return Path(self.storage.assets.removeprefix("file://") or Path(self.data_dir) / "assets").absolute()


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
    faults: list[Fault] = []
    lax = _apply_environment(tree, environment, faults)
    for path, value in (overrides or {}).items():
        if value is not None:
            _set(tree, path.split("."), value)
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
        is_list = dotted == "server.cors_origins"
        _set(tree, path, [item.strip() for item in text.split(",") if item.strip()] if is_list else text)
    return lax


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        below = tree.get(name)
        if not isinstance(below, dict):
            below = tree[name] = {}
        tree = below
    tree[path[-1]] = value


def _cross_check(tree: Mapping[str, Any], environment: Mapping[str, str]) -> list[Fault]:
    """Rules over more than one field. The tree may still be malformed: look with care."""
    faults: list[Fault] = []
    listed = tree.get("backends")
    backends = [table for table in listed if isinstance(table, dict)] if isinstance(listed, list) else []
    names: set[str] = set()
    for index, table in enumerate(backends):
        path = f"backends[{index}]"
        name = table.get("name")
        if name in names:
            faults.append(Fault(f"{path}.name", f'"{name}" is taken by an earlier backend', "give it another name"))
        names.add(str(name))
        if table.get("kind") == "openai" and not _is_http(str(table.get("url", ""))):
            got = table.get("url", "")
            mend = 'write for example "http://127.0.0.1:9000/v1"'
            faults.append(Fault(f"{path}.url", f'expected an http or https address, got "{got}"', mend))
        variable = table.get("api_key_env")
        if isinstance(variable, str) and variable and not environment.get(variable):
            mend = did_you_mean(variable, environment) or ""
            faults.append(
                Fault(f"{path}.api_key_env", f'the environment has no "{variable}"', mend if "mean" in mend else None)
            )
    faults += _check_storage(tree.get("storage"))
    worker = tree.get("worker")
    if isinstance(worker, dict):
        lease, beat = worker.get("lease_seconds", 15.0), worker.get("heartbeat_seconds", 5.0)
        if isinstance(lease, int | float) and isinstance(beat, int | float) and beat * 2 > lease:
            mend = f"at most {lease / 2:g}, half of lease_seconds"
            faults.append(Fault("worker.heartbeat_seconds", f"{beat:g} is too long for a lease of {lease:g}", mend))
    return faults


def _check_storage(storage: Any) -> list[Fault]:
    if not isinstance(storage, dict):
        return []
    forms = {"url": ("sqlite:///", "sqlite:///var/sluicegate.db"), "assets": ("file:///", "file:///var/assets")}
    return [
        Fault(f"storage.{field}", f'expected {start}…, got "{value}"', f'write for example "{example}"')
        for field, (start, example) in forms.items()
        if isinstance(value := storage.get(field, ""), str) and value and not value.startswith(start)
    ]


def _is_http(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname)
