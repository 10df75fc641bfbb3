"""The official OpenAI client, unchanged."""

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.shared_params import ResponseFormatJSONSchema
from tests.gateway import RunningGateway, eventually

MODEL = "smollm2-135m"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say hello in one short sentence."}]


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0) as made:
        yield made


def test_it_lists_models(client: OpenAI) -> None:
    ids = {model.id for model in client.models.list()}
    assert {MODEL, "style-transfer", "realesrgan-x2", "realesrgan-x4"} <= ids
    assert client.models.retrieve(MODEL).owned_by == "local-llm"


def test_it_gets_a_whole_answer_with_usage(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=16, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 16


def test_it_streams_with_usage_at_the_end(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, max_tokens=16, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        usage = chunk.usage or usage
    assert text
    assert usage is not None
    assert usage.completion_tokens > 0


def test_it_gets_structured_output(client: OpenAI) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form: ResponseFormatJSONSchema = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=32, response_format=form)
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")


def test_an_unknown_model_is_a_not_found_error(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="smollm2-135n", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert 'did you mean "smollm2-135m"?' in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_wrong_field_is_a_bad_request_that_names_it(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, temperature=9)
    assert caught.value.param == "temperature"


def test_a_prompt_over_the_context_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "river " * 20_000}])


def test_closing_a_stream_cancels_it_upstream(gateway: RunningGateway, client: OpenAI) -> None:
    def cancelled() -> int:
        return int(gateway.get("/api/chat/streams").json()["cancelled"])

    before = cancelled()
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1500, stream=True)
    next(iter(stream))
    stream.close()
    eventually(cancelled, lambda now: now == before + 1)


def test_it_goes_on_with_a_text(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8


def test_it_streams_a_text(client: OpenAI) -> None:
    stream = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream if chunk.choices)


def test_a_model_that_makes_no_vectors_says_so(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input="hello")
    assert "embeddings" in caught.value.message


@pytest.mark.parametrize("prompt", [5, None, {"a": 1}])
def test_a_prompt_that_is_none_is_a_bad_request(client: OpenAI, prompt: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=MODEL, prompt="x", extra_body={"prompt": prompt})
    assert caught.value.param == "prompt"


def test_an_input_that_is_none_is_a_bad_request(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input="x", extra_body={"input": 5})
    assert caught.value.param == "input"


def test_many_async_callers_share_the_model(gateway: RunningGateway) -> None:
    async def scenario() -> list[str]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=5) as client:
            calls = [client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=4) for _ in range(8)]
            return [answer.choices[0].message.content or "" for answer in await asyncio.gather(*calls)]

    assert all(asyncio.run(scenario()))
