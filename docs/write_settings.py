"""Write docs/guides/settings.md from the types in `sluicegate.settings`. A test compares the page with this.

python docs/write_settings.py
"""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from sluicegate.settings import (
    BackendSettings,
    ObservabilitySettings,
    ResultsSettings,
    SchedulingSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TierLimits,
    TierSettings,
    TimeoutSettings,
    TlsSettings,
    WorkerSettings,
)

_TIMES = {field.encode_name for field in msgspec.structs.fields(TimeoutSettings)}
PAGE = Path(__file__).parent / "guides" / "settings.md"

HEAD = """# Settings

<!-- Made by docs/write_settings.py from src/sluicegate/settings/tree.py: change it there. -->

Nothing has to be set. What is set comes from four places; a later one wins:

1. the defaults below,
2. a TOML file: `--config FILE`, or `sluicegate.toml` of the working directory when it is there,
3. the environment: `SLUICEGATE__SECTION__FIELD`, for example `SLUICEGATE__SERVER__PORT=9000`. A file `.env` of the
   working directory is read as well; real variables win over it. A list is written with commas,
4. the flags of the command.

Everything is checked before anything starts, and every fault is told at once, with its place and the nearest right
word. `sluicegate doctor` checks the settings too, and what they point at. Secrets never stand in the file: a field
names the environment variable that holds them.

```toml
data_dir = "/var/lib/sluicegate"

[server]
port = 9000
cors_origins = ["https://app.example"]

[worker]
processes = 2

[observability]
log_level = "warning"
```
"""

BACKENDS = """
One `[[backends]]` table for each backend. Without any, the built-in models are served: `local-llm` with
`max_concurrency` 8, and `local-image`. With one or more, only those that are written down. They cannot be set by
variables.

| kind | serves | fields that matter |
|---|---|---|
| `openai` | chat, through any server that speaks OpenAI's dialect at `url` | `url`, `api_key_env`, `models`, `max_concurrency`, `timeout_seconds` |
| `vllm` | chat, through a vLLM server at `url`; its load is read as well | as for `openai` |
| `ollama` | chat and embeddings, through an Ollama server whose root is `url`, such as `http://gpu1:11434` | as for `openai` |
| `local-llm` | chat, with the built-in `smollm2-135m` in a process of its own | `max_concurrency`, `threads`, `timeout_seconds` |
| `local-image` | picture jobs, with the built-in models, in the worker processes | `models`, `threads` |

Several backends may serve the same chat model: a call goes to the one with the fewest open calls. `url` is the address
up to and with `/v1`, of an Ollama server without it. With `models` empty, such a backend is asked every 10 s which
models it has.

```toml
[[backends]]
name = "gpu1"
kind = "openai"
url = "http://gpu1:8000/v1"
api_key_env = "GPU1_KEY"
models = ["llama-3.1-8b-instruct"]
max_concurrency = 64
timeout_seconds = { connect = 2, first_byte = 30, idle = 20, total = 300 }
```
"""  # noqa: E501 - a table of the page has long rows

TLS = """
With both files named, callers use `https://`, and `http://` is not answered. TLS 1.2 and 1.3 are spoken. A certificate
that was renewed is read when the gateway starts again.
"""

STORAGE = """
`sqlite:///…` keeps everything in one file on a local disk, for one machine. `postgresql://…` is for more: any number of
gateways and workers on one database. A password never stands in the file: set `PGPASSWORD`, keep it in `~/.pgpass`, or
give the whole address in the environment, as `SLUICEGATE__STORAGE__URL`.

```toml
[storage]
url = "postgresql://sluicegate@db1/sluicegate"
```
"""

POOLS = """
Jobs wait in the pool of the backend that serves their model. A worker takes jobs of the first of its pools that has
one for it. With two kinds of machines, give each kind's backends a pool, and start on each machine the workers that
serve it.
"""

SCHEDULING = """
What the rule does with them: [03-scheduling.md](../architecture/03-scheduling.md). A reference second is what the work
takes on the reference device: one core of an AMD EPYC server processor, for the built-in models.
"""

TIERS = """
Four tiers are there without being written down: `free` (weight 1, its running jobs may be made to give way), `basic`
(4), `pro` (16), and `local` (16, with nothing that bounds its queue) for the tenant `local`, who owns the machine. A
table with one of these names changes what it says and keeps the rest; other names add tiers. A name has small letters,
digits, `_` and `-`. In the environment: `SLUICEGATE__TIERS__PRO__WEIGHT=32`.

```toml
[server]
local_tier = "pro"

[tiers.pro]
weight = 32
max_cost = 300
limits = { concurrent_jobs = 4, queued_jobs = "unlimited" }

[tiers.batch]
weight = 0.5
preemptible = true
```
"""

LIMITS = """
They hold for each tenant alone. A job over `queued_jobs` or `queued_cost` is refused: `429 queue_full` with
`Retry-After`.
"""

SECTIONS: tuple[tuple[str, str, type[msgspec.Struct], str], ...] = (
    ("", "At the top", Settings, ""),
    ("server", "`[server]`", ServerSettings, ""),
    ("server.tls", "`[server.tls]`", TlsSettings, TLS),
    ("storage", "`[storage]`", StorageSettings, STORAGE),
    ("backends", "`[[backends]]`", BackendSettings, BACKENDS),
    ("backends.timeout_seconds", "`timeout_seconds` of a backend", TimeoutSettings, ""),
    ("worker", "`[worker]`", WorkerSettings, POOLS),
    ("scheduling", "`[scheduling]`", SchedulingSettings, SCHEDULING),
    ("tiers.NAME", "`[tiers.NAME]`", TierSettings, TIERS),
    ("tiers.NAME.limits", "`limits` of a tier", TierLimits, LIMITS),
    ("results", "`[results]`", ResultsSettings, ""),
    ("observability", "`[observability]`", ObservabilitySettings, ""),
)


def render() -> str:
    """The whole page."""
    return HEAD + "".join(_section(*section) for section in SECTIONS)


def field_paths() -> Iterator[str]:
    """Every setting's dotted path, tables left out."""
    for prefix, _, kind, _ in SECTIONS:
        for field in msgspec.structs.fields(kind):
            if not _is_table(field.type):
                yield f"{prefix}.{field.encode_name}" if prefix else field.encode_name


def _section(prefix: str, title: str, kind: type[msgspec.Struct], words: str) -> str:
    purpose = (kind.__doc__ or "").strip() if prefix else "What stands before the first table of the file."
    rows = [_row(prefix, field) for field in msgspec.structs.fields(kind) if not _is_table(field.type)]
    head = "| setting | takes | default | meaning |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{purpose}\n{words}\n{head}" + "".join(rows)


def _row(prefix: str, field: Any) -> str:
    path = f"{prefix}.{field.encode_name}" if prefix else field.encode_name
    metas = list(_metas(field.type))
    meaning = next(meta.description for meta in metas if meta.description)
    default = "required" if field.required else f"`{msgspec.json.encode(field.default).decode()}`"
    return f"| `{path}` | {_takes(field, metas)} | {default} | {meaning} |\n"


def _takes(field: Any, metas: list[Meta]) -> str:
    bare = _bare(field.type)
    if get_origin(bare) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(bare))
    if get_origin(bare) is tuple:
        return "a list of texts"
    if bare is str:
        return next((str(meta.extra["hint"]) for meta in metas if meta.extra and "hint" in meta.extra), "text")
    if bare is bool:
        return "`true`, `false`"
    words = []
    if get_origin(bare) in (Union, UnionType):
        number, word = get_args(bare)
        bare, metas = _bare(number), [*metas, *_metas(number)]
        words = [f'or `"{get_args(word)[0]}"`']
    least = next((f"from {meta.ge:,}" for meta in metas if meta.ge is not None), "")
    least = next((f"over {meta.gt:,}" for meta in metas if meta.gt is not None), least)
    most = next((f"to {_number(meta.le)}" for meta in metas if meta.le is not None), "")
    return " ".join(part for part in (_unit(field.encode_name), least, most, *words) if part)


def _unit(name: str) -> str:
    if name in ("preempt_progress", "weight"):
        return "a number"
    for word in ("cost", "seconds", "bytes", "pixels"):
        if word in name:
            return f"{'reference seconds' if word == 'cost' else word},"
    return "seconds," if name in _TIMES else "a number"


def _number(most: float) -> str:
    return f"{most:,.0f}" if most == int(most) else f"{most:,}"


def _is_table(kind: Any) -> bool:
    bare = _bare(kind)
    items = get_args(bare)[:1] if get_origin(bare) is tuple else get_args(bare) if get_origin(bare) is dict else (bare,)
    return any(isinstance(item, type) and issubclass(item, msgspec.Struct) for item in items)


def _bare(kind: Any) -> Any:
    return _bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def _metas(kind: Any) -> Iterator[Meta]:
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        yield from (note for note in notes if isinstance(note, Meta))
        yield from _metas(inner)


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
