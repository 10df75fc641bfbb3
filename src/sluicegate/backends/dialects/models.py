"""Lists of models: what an Ollama server tells of its models, and what we tell in its dialect of ours."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from sluicegate.backends.dialects.bodies import read_answer
from sluicegate.backends.dialects.ollama import Details, ListedModel, ModelList, Shown, timestamp
from sluicegate.domain.generation import ModelCard

API_RELEASE = "0.13.0"
"""The release of Ollama whose API this package speaks; clients ask for it to learn what they may send."""

_FOREVER = "9999-12-31T23:59:59Z"
_LATEST = ":latest"


class OllamaModel(msgspec.Struct, frozen=True, kw_only=True):
    """What an Ollama server tells of one model; empty or None where it does not say."""

    id: str
    family: str = ""
    parameter_size: str = ""
    """For example "8.0B"."""
    quantization: str = ""
    context_length: int | None = None
    """In tokens."""
    capabilities: tuple[str, ...] = ()
    """For example "completion", "tools", "vision", "thinking", "embedding"."""


def listed_models(body: bytes) -> list[OllamaModel]:
    """The models of an answer of ``/api/tags``. Raises `BackendFailed` when it is something else."""
    listed = read_answer(body, ModelList, "Ollama").models or []
    return [_model(entry) for entry in listed if entry.model or entry.name]


def shown_model(model: OllamaModel, body: bytes) -> OllamaModel:
    """The model with what the answer of ``/api/show`` adds. Raises `BackendFailed` when it is something else."""
    shown = read_answer(body, Shown, "Ollama")
    details, info = shown.details or Details(), shown.model_info or {}
    return OllamaModel(
        id=model.id,
        family=details.family or model.family,
        parameter_size=details.parameter_size or model.parameter_size,
        quantization=details.quantization_level or model.quantization,
        context_length=_context_length(info) or model.context_length,
        capabilities=tuple(shown.capabilities or model.capabilities),
    )


def model_card(model: OllamaModel, backend: str) -> ModelCard:
    """The model as our callers see it. A model that only embeds has no task, but is listed and can be called."""
    context = f"{model.context_length} tokens of context" if model.context_length else ""
    told = (model.family, model.parameter_size, model.quantization, context)
    chats = not model.capabilities or "completion" in model.capabilities
    return ModelCard(
        id=model.id,
        tasks=("chat",) if chats else (),
        backend=backend,
        description=", ".join(word for word in told if word),
    )


def find_model(asked: str, known: Collection[str]) -> str | None:
    """The known model that an Ollama client means: to it, "name" and "name:latest" are the same."""
    for candidate in (asked, asked.removesuffix(_LATEST), asked + _LATEST):
        if candidate in known:
            return candidate
    return None


def tags_body(cards: Sequence[ModelCard], *, started: float, details: Mapping[str, OllamaModel] | None = None) -> bytes:
    """The answer of ``/api/tags`` for the cards that chat.

    `started` (seconds since the epoch) stands for the time of the last change; `details` holds, by id, what is known.
    """
    entries = [{**_entry(card, details), "modified_at": timestamp(started)} for card in _chatting(cards)]
    return msgspec.json.encode({"models": entries})


def running_body(cards: Sequence[ModelCard], *, details: Mapping[str, OllamaModel] | None = None) -> bytes:
    """The answer of ``/api/ps``: all models that are served count as loaded, for good."""
    entries = [{**_entry(card, details), "expires_at": _FOREVER, "size_vram": 0} for card in _chatting(cards)]
    return msgspec.json.encode({"models": entries})


def show_body(card: ModelCard, *, started: float, details: OllamaModel | None = None) -> bytes:
    """The answer of ``/api/show`` for one card."""
    told = details or OllamaModel(id=card.id)
    info: dict[str, Any] = {"general.architecture": told.family, "general.basename": card.id}
    if told.context_length:
        info[f"{told.family or 'general'}.context_length"] = told.context_length
    shown = {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(told),
        "model_info": info,
        "capabilities": told.capabilities or ("completion",),
        "modified_at": timestamp(started),
    }
    return msgspec.json.encode(shown)


def version_body() -> bytes:
    """The answer of ``/api/version``."""
    return msgspec.json.encode({"version": API_RELEASE})


def _model(entry: ListedModel) -> OllamaModel:
    details = entry.details or Details()
    return OllamaModel(
        id=entry.model or entry.name,
        family=details.family or "",
        parameter_size=details.parameter_size or "",
        quantization=details.quantization_level or "",
        context_length=entry.context_length or None,
        capabilities=tuple(entry.capabilities or ()),
    )


def _context_length(info: Mapping[str, Any]) -> int | None:
    """The field is named for the architecture: ``llama.context_length``."""
    wanted = f"{info.get('general.architecture')}.context_length"
    others = (value for name, value in info.items() if name.endswith(".context_length"))
    value = info.get(wanted, next(others, None))
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _chatting(cards: Sequence[ModelCard]) -> list[ModelCard]:
    return [card for card in cards if "chat" in card.tasks or not card.tasks]


def _entry(card: ModelCard, details: Mapping[str, OllamaModel] | None) -> dict[str, Any]:
    told = (details or {}).get(card.id) or OllamaModel(id=card.id)
    # Clients show the digest's first letters and tell by it whether a model changed.
    digest = hashlib.sha256(msgspec.json.encode([card, told])).hexdigest()
    return {"name": card.id, "model": card.id, "size": 0, "digest": digest, "details": _details(told)}


def _details(told: OllamaModel) -> Details:
    return Details(
        family=told.family,
        families=[told.family] if told.family else None,
        parameter_size=told.parameter_size,
        quantization_level=told.quantization,
    )
