"""The tree of settings: unit, default and a sentence for each field."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar
from urllib.parse import unquote_plus

import msgspec
from msgspec import Meta

from sluicegate.domain.fairness import DEFAULT_POOL, Policy, Tier

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z",
        extra={"hint": "letters, digits and . _ - only, at most 64, beginning with a letter or digit"},
    ),
]
UNLIMITED: Final = "unlimited"
"""What stands in the settings where a limit is lifted."""
_Bound = Meta(extra={"hint": 'a number, or "unlimited"'})
Jobs = Annotated[Annotated[int, Meta(ge=1, le=100_000_000)] | Literal["unlimited"], _Bound]
Cost = Annotated[Annotated[float, Meta(gt=0, le=1e9)] | Literal["unlimited"], _Bound]
POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
_PASSWORD_PARAMETER = re.compile(r"(password\s*=).*", re.IGNORECASE | re.DOTALL)
_NO_PORT = re.compile(r"^([^:/?#\[]*):(?!\d*(?:[,/?#]|$))[^/?#]*")
"""Where no host is named, what stands in a port's place may be a password."""
_Number = TypeVar("_Number", int, float)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the settings file; unknown fields are faults."""


class TlsSettings(_Section, frozen=True, kw_only=True):
    """Encryption of what callers send and get. Both files, in PEM form, or neither."""

    certificate: Annotated[str, Meta(description="File of the certificate, with those that sign it behind it.")] = ""
    key: Annotated[str, Meta(description="File of the certificate's private key, without a password.")] = ""


class ServerSettings(_Section, frozen=True, kw_only=True):
    """The HTTP server."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8000
    processes: Annotated[
        int, Meta(ge=0, le=256, description="Processes that serve the one port; 0: one for each core.")
    ] = 1
    max_streams: Annotated[int, Meta(ge=1, description="Chat calls relayed at once; more get 503.")] = 2_000
    max_body_bytes: Annotated[int, Meta(ge=1_024, description="Largest JSON body, in bytes.")] = 16_000_000
    max_upload_bytes: Annotated[int, Meta(ge=1_024, description="Largest uploaded picture, in bytes.")] = 100_000_000
    client_idle_seconds: Annotated[
        Seconds, Meta(description="How long a caller may pause while it sends a body or takes a chat answer.")
    ] = 60.0
    head_seconds: Annotated[
        Seconds, Meta(description="How long a request's line and headers may take to arrive, all in all.")
    ] = 20.0
    drain_seconds: Annotated[Seconds, Meta(description="After SIGTERM, how long running work may take to end.")] = 30.0
    cors_origins: Annotated[
        tuple[str, ...],
        Meta(description="Web origins, such as https://app.example, whose pages may call this gateway."),
    ] = ()
    local_tier: Annotated[
        Name, Meta(description="Tier of the tenant `local`, as whom every caller acts until keys exist.")
    ] = "local"
    tls: TlsSettings = TlsSettings()


class StorageSettings(_Section, frozen=True, kw_only=True):
    """Where state and pictures are kept. Empty fields mean: in the data directory."""

    url: Annotated[
        str,
        Meta(
            description="sqlite:///path/to/file.db or postgresql://user@host/database; empty: DATA_DIR/sluicegate.db."
        ),
    ] = ""
    assets: Annotated[str, Meta(description="file:///path/to/folder; empty: DATA_DIR/assets.")] = ""

    def __repr__(self) -> str:
        return f"StorageSettings(url={without_password(self.url)!r}, assets={self.assets!r})"

    @property
    def engine(self) -> Literal["sqlite", "postgresql"]:
        """Which engine `url` names."""
        return "postgresql" if self.url.startswith(POSTGRES_SCHEMES) else "sqlite"


class TimeoutSettings(_Section, frozen=True, kw_only=True):
    """How long a backend may take, in seconds."""

    connect: Annotated[Seconds, Meta(description="To make a connection.")] = 5.0
    first_byte: Annotated[Seconds, Meta(description="From the request sent to the head of the answer.")] = 120.0
    idle: Annotated[Seconds, Meta(description="Between two pieces of a streamed answer.")] = 60.0
    total: Annotated[Seconds, Meta(description="For the whole call.")] = 600.0


BackendKind = Literal["openai", "vllm", "ollama", "local-llm", "local-image"]


class BackendSettings(_Section, frozen=True, kw_only=True):
    """One backend, a ``[[backends]]`` table."""

    name: Annotated[Name, Meta(description="A unique name, shown in health, metrics and jobs.")]
    kind: Annotated[BackendKind, Meta(description="Which adapter serves it.")]
    url: Annotated[
        str,
        Meta(description="openai, vllm: base address, such as http://gpu1:8000/v1; ollama: the server's root."),
    ] = ""
    api_key_env: Annotated[str, Meta(description="Environment variable that holds the backend's key.")] = ""
    models: Annotated[tuple[str, ...], Meta(description="Models to serve; empty: all that the backend names.")] = ()
    max_concurrency: Annotated[
        int, Meta(ge=1, le=100_000, description="Calls at once; local-llm takes at most 16.")
    ] = 100
    threads: Annotated[int, Meta(ge=1, le=256, description="local kinds: CPU threads for one piece of work.")] = 1
    pool: Annotated[
        Name, Meta(description="kind local-image: the pool that its jobs wait in; workers choose pools to serve.")
    ] = DEFAULT_POOL
    timeout_seconds: TimeoutSettings = TimeoutSettings()


class WorkerSettings(_Section, frozen=True, kw_only=True):
    """The processes that run picture jobs."""

    processes: Annotated[int, Meta(ge=0, le=256, description="Worker processes started by `serve`.")] = 1
    pools: Annotated[
        tuple[Name, ...],
        Meta(
            description="Pools to serve, the first before the others, also one that no backend has any more but jobs "
            "are left in; empty: those of the backends, in their order."
        ),
    ] = ()
    lease_seconds: Annotated[Seconds, Meta(description="A worker silent for so long loses its job.")] = 15.0
    heartbeat_seconds: Annotated[Seconds, Meta(description="How often a worker renews its leases.")] = 5.0
    max_attempts: Annotated[int, Meta(ge=1, le=100, description="Tries at a job before it has failed.")] = 3
    job_timeout_seconds: Annotated[Seconds, Meta(description="Longest run of one attempt.")] = 600.0
    max_pixels: Annotated[int, Meta(ge=256, description="Most pixels (width x height) of a picture taken in.")] = (
        40_000_000
    )


class SchedulingSettings(_Section, frozen=True, kw_only=True):
    """The constants of the fair queue, the same for every process on one store. Costs are in reference seconds."""

    swap_seconds: Annotated[
        float,
        Meta(ge=0, le=3_600, description="What one change of model costs a worker; it changes for a tenant that is "
             "twice as far behind, in virtual seconds."),
    ] = 10.0  # fmt: skip
    max_cost_seconds: Annotated[
        float, Meta(ge=1, le=86_400, description="No job counts as dearer than so many reference seconds.")
    ] = 600.0
    lane_wait_seconds: Annotated[
        Seconds, Meta(description="A tenant's jobs for one model, unserved for longer, go before its others.")
    ] = 120.0
    guard_seconds: Annotated[Seconds, Meta(description="A tenant unserved for longer may be served out of turn.")] = (
        300.0
    )
    guard_every: Annotated[int, Meta(ge=2, le=1_000, description="At most one claim in so many is out of turn.")] = 8
    preempt_wait_seconds: Annotated[
        Seconds, Meta(description="How long a tenant far behind waits before running work gives way to it.")
    ] = 10.0
    preempt_progress: Annotated[
        float, Meta(ge=0, le=1, description="Share of a job's work, 0 to 1, after which it no longer gives way.")
    ] = 0.5

    @property
    def policy(self) -> Policy:
        """The constants as the rule takes them."""
        return Policy(
            swap_penalty=2 * self.swap_seconds,
            max_cost=self.max_cost_seconds,
            lane_wait=self.lane_wait_seconds,
            guard=self.guard_seconds,
            guard_every=self.guard_every,
            preempt_wait=self.preempt_wait_seconds,
            preempt_progress=self.preempt_progress,
        )


class TierLimits(_Section, frozen=True, kw_only=True):
    """What one tenant may have at once, in each pool. "unlimited" lifts a bound."""

    concurrent_jobs: Annotated[Jobs, Meta(description="Jobs that run at once; more wait.")] = "unlimited"
    queued_jobs: Annotated[Jobs, Meta(description="Jobs that wait; more get 429.")] = 1_000
    queued_cost: Annotated[
        Cost, Meta(description="Work that waits, in reference seconds; more gets 429. One job always may.")
    ] = 7_200.0


class TierSettings(_Section, frozen=True, kw_only=True):
    """What the tenants of one tier are granted, a ``[tiers.NAME]`` table."""

    weight: Annotated[
        float, Meta(ge=0.001, le=1_000_000, description="Share of a busy pool, relative to other tenants.")
    ] = 1.0
    preemptible: Annotated[
        bool, Meta(description="Whether running jobs may be made to give way to a tenant that is far behind.")
    ] = False
    max_cost: Annotated[Cost, Meta(description="Estimated cost of one job, in reference seconds; more is refused.")] = (
        "unlimited"
    )
    limits: TierLimits = TierLimits()


BUILT_IN_TIERS: Final[dict[str, TierSettings]] = {
    "free": TierSettings(weight=1.0, preemptible=True),
    "basic": TierSettings(weight=4.0),
    "pro": TierSettings(weight=16.0),
    "local": TierSettings(weight=16.0, limits=TierLimits(queued_jobs="unlimited", queued_cost="unlimited")),
}
"""Tiers that are there without being written down. `local` is for who owns the machine: nothing bounds its queue."""


def _default_backends() -> tuple[BackendSettings, ...]:
    return (
        BackendSettings(name="local-llm", kind="local-llm", max_concurrency=8),
        BackendSettings(name="local-image", kind="local-image"),
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
    scheduling: SchedulingSettings = SchedulingSettings()
    tiers: dict[str, TierSettings] = msgspec.field(default_factory=lambda: dict(BUILT_IN_TIERS))
    results: ResultsSettings = ResultsSettings()
    observability: ObservabilitySettings = ObservabilitySettings()

    @property
    def database_path(self) -> Path:
        """The SQLite file; without meaning when `storage.engine` is another."""
        path = self.storage.url.removeprefix("sqlite:///") if self.storage.engine == "sqlite" else ""
        return Path(path or Path(self.data_dir) / "sluicegate.db").absolute()

    @property
    def database_words(self) -> str:
        """The database as it may be shown: a path, or an address without its password."""
        return str(self.database_path) if self.storage.engine == "sqlite" else without_password(self.storage.url)

    @property
    def assets_path(self) -> Path:
        """The folder of pictures."""
        return Path(self.storage.assets.removeprefix("file://") or Path(self.data_dir) / "assets").absolute()

    @property
    def policy(self) -> Policy:
        """The constants of the fair queue."""
        return self.scheduling.policy

    @property
    def worker_pools(self) -> tuple[str, ...]:
        """The pools that a worker of these settings serves, in order."""
        return self.worker.pools or self.job_pools

    @property
    def job_pools(self) -> tuple[str, ...]:
        """The pools of the backends that run jobs, in the order in which they are mentioned."""
        return tuple(dict.fromkeys(backend.pool for backend in self.backends if backend.kind == "local-image"))

    @property
    def local_tier(self) -> Tier:
        """What the tenant `local` is granted."""
        return self.tier(self.server.local_tier)

    def tier(self, name: str) -> Tier:
        """What the tenants of a tier are granted. Raises `KeyError` for an unknown name."""
        table = self.tiers[name]
        limits = table.limits
        return Tier(
            name=name,
            weight=table.weight,
            concurrent_jobs=_bound(limits.concurrent_jobs),
            queued_jobs=_bound(limits.queued_jobs),
            queued_cost=_bound(limits.queued_cost),
            max_cost=_bound(table.max_cost),
            preemptible=table.preemptible,
        )


def without_password(url: str) -> str:
    """The address with its password replaced by three dots.

    A password may hold what should be escaped, so more may go: all from the first colon behind the scheme to the last
    @, and all that follows the name of a password among the parameters.
    """
    if url.startswith("sqlite:///"):
        return url
    scheme, mark, rest = url.partition("://")
    if not mark:
        shown = _PASSWORD_PARAMETER.sub(r"\1…", url)
        return "…@" + shown.rpartition("@")[2] if "@" in shown else shown
    before, at, host = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    if not at:
        rest = _NO_PORT.sub(r"\1:…", rest)
    elif colon:
        rest = f"{user}:…@{host}"
    head, question, query = _PASSWORD_PARAMETER.sub(r"\1…", rest).partition("?")
    return f"{scheme}://{head}{question}{_without_escaped_password(query)}"


def _without_escaped_password(query: str) -> str:
    """The parameters up to a password whose name is percent-encoded."""
    parameters = query.split("&")
    for at, parameter in enumerate(parameters):
        name = parameter.partition("=")[0]
        if "password" in unquote_plus(name).lower():
            return "&".join([*parameters[:at], f"{name}=…"])
    return query


def _bound(limit: _Number | Literal["unlimited"]) -> _Number | None:
    return None if isinstance(limit, str) else limit
