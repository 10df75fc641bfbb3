"""How to draw tokens: OpenAI's top-level fields and Ollama's ``options``."""

from typing import Any

from sluicegate.backends.dialects import ollama, openai

_SAME = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "min_p",
    "typical_p",
    "mirostat_tau",
    "mirostat_eta",
)
_SAME_WHOLE = ("seed", "top_k", "repeat_last_n", "mirostat")
"""Whole numbers, which an Ollama client may write as ``42.0``."""


def options_of(sampling: openai.Sampling, most_tokens: int | None) -> dict[str, Any]:
    """Ollama's options. What the caller leaves open is left open, so that the model's own settings hold."""
    options = _present(sampling, (*_SAME, *_SAME_WHOLE))
    penalty = sampling.repetition_penalty if sampling.repeat_penalty is None else sampling.repeat_penalty
    if penalty is not None:
        options["repeat_penalty"] = penalty
    if sampling.stop is not None:
        options["stop"] = [sampling.stop] if isinstance(sampling.stop, str) else sampling.stop
    if most_tokens is not None:
        options["num_predict"] = most_tokens
    return {**options, **(sampling.options or {})}


def sampling_of(options: ollama.Options | None) -> dict[str, Any]:
    """OpenAI's fields, with those of llama.cpp's server and vLLM for what OpenAI itself does not have."""
    if options is None:
        return {}
    fields = _present(options, _SAME)
    fields |= {name: int(value) for name, value in _present(options, _SAME_WHOLE).items()}
    if options.repeat_penalty is not None:
        fields["repeat_penalty"] = fields["repetition_penalty"] = options.repeat_penalty
    if options.stop is not None:
        fields["stop"] = [options.stop] if isinstance(options.stop, str) else options.stop
    if options.num_predict is not None and options.num_predict > 0:
        fields["max_tokens"] = int(options.num_predict)
    return fields


def _present(source: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(source, name)) is not None}
