"""Lists of models, read from an Ollama server and written for its clients."""

import json

import ollama
import pytest
from tests.ollama_models import MODELS, entry, script_for, shown

from sluicegate.backends.dialects.models import (
    OllamaModel,
    find_model,
    listed_models,
    model_card,
    running_body,
    show_body,
    shown_model,
    tags_body,
    version_body,
)
from sluicegate.domain.generation import ModelCard
from sluicegate.errors import BackendFailed

CHAT = ModelCard(id="llama3", tasks=("chat",), backend="b")
PICTURE = ModelCard(id="sprout", tasks=("text-to-image",), backend="b")
KNOWN = OllamaModel(
    id="llama3",
    family="llama",
    parameter_size="8.0B",
    quantization="Q4_0",
    context_length=8192,
    capabilities=("completion", "tools"),
)


def test_what_a_server_lists_and_shows_becomes_a_card() -> None:
    (listed,) = listed_models(json.dumps({"models": [entry("steady:latest"), {}]}).encode())
    assert (listed.id, listed.parameter_size, listed.context_length) == ("steady:latest", "8.0B", None)
    model = shown_model(listed, json.dumps(shown(MODELS["steady"])).encode())
    assert (model.family, model.quantization, model.context_length) == ("llama", "Q4_0", 8192)
    card = model_card(model, "gpu1")
    assert (card.id, card.tasks, card.backend) == ("steady:latest", ("chat",), "gpu1")
    assert card.description == "llama, 8.0B, Q4_0, 8192 tokens of context"


def test_a_model_that_only_embeds_does_not_chat() -> None:
    script = script_for({"model": "embedder"})
    model = shown_model(OllamaModel(id="embedder"), json.dumps(shown(script)).encode())
    assert model_card(model, "b").tasks == ()
    assert model_card(OllamaModel(id="old"), "b").tasks == ("chat",)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"models":{}}', b'{"models":[7]}'])
def test_a_list_that_is_none_is_a_failure(body: bytes) -> None:
    with pytest.raises(BackendFailed):
        listed_models(body)
    assert listed_models(b'{"models":null}') == []


def test_newer_servers_tell_capabilities_in_the_list() -> None:
    told = {"name": "x", "details": None, "capabilities": ["embedding"], "context_length": 512}
    (listed,) = listed_models(json.dumps({"models": [told]}).encode())
    assert (listed.id, listed.capabilities, listed.context_length) == ("x", ("embedding",), 512)


def test_latest_is_the_same_as_no_tag() -> None:
    assert find_model("a", {"a", "a:latest"}) == "a"
    assert find_model("a:latest", {"a"}) == "a"
    assert find_model("a", {"a:latest"}) == "a:latest"
    assert find_model("a:7b", {"a", "a:latest"}) is None


def test_our_models_are_listed_for_the_official_client() -> None:
    body = tags_body([CHAT, PICTURE], started=1_700_000_000.5, details={"llama3": KNOWN})
    (model,) = ollama.ListResponse.model_validate_json(body).models
    assert (model.model, len(model.digest or "")) == ("llama3", 64)
    assert model.modified_at is not None
    assert model.modified_at.timestamp() == 1_700_000_000.5
    assert model.details is not None
    assert (model.details.parameter_size, model.details.families) == ("8.0B", ["llama"])
    (running,) = ollama.ProcessResponse.model_validate_json(running_body([CHAT, PICTURE])).models
    assert running.model == "llama3"


def test_a_changed_model_has_another_digest() -> None:
    bodies = [tags_body([CHAT], started=0), tags_body([CHAT], started=0, details={"llama3": KNOWN})]
    first, second = (json.loads(body)["models"][0]["digest"] for body in bodies)
    assert first != second


def test_a_shown_model_tells_what_is_known() -> None:
    told = ollama.ShowResponse.model_validate_json(show_body(CHAT, started=0, details=KNOWN))
    assert told.capabilities == ["completion", "tools"]
    assert told.modelinfo is not None
    assert told.modelinfo["llama.context_length"] == 8192
    again = shown_model(OllamaModel(id="llama3"), show_body(CHAT, started=0, details=KNOWN))
    assert again == KNOWN
    bare = ollama.ShowResponse.model_validate_json(show_body(CHAT, started=0))
    assert bare.capabilities == ["completion"]


def test_the_version_is_one_that_clients_can_compare() -> None:
    version = json.loads(version_body())["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)
