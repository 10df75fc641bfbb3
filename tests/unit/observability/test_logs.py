"""Logs."""

import io
import json
import logging
from collections.abc import Iterator

import msgspec
import pytest

from sluicegate.observability.logs import LineHandler, Log, configure_logs, request_id
from sluicegate.settings import ObservabilitySettings


class _Line(msgspec.Struct):
    event: str


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(**settings: str) -> tuple[io.StringIO, Log]:
    stream = io.StringIO()
    configure_logs(ObservabilitySettings(**settings), stream)  # type: ignore[arg-type]
    return stream, Log("sluicegate.test")


def test_json_is_one_object_a_line_with_the_fields() -> None:
    stream, log = written(log_format="json")
    log.info("job claimed", job="job_1", seconds=0.5)
    log.warning("odd", text="line\nbreak")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["level"], first["job"], first["seconds"]) == ("job claimed", "info", "job_1", 0.5)
    assert second["text"] == "line\nbreak"
    assert first["time"].endswith("+00:00")


def test_a_line_inside_a_request_carries_its_id() -> None:
    stream, log = written(log_format="json")
    token = request_id.set("req_7")
    log.info("inside")
    request_id.reset(token)
    log.info("outside")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["request_id"] == "req_7"
    assert "request_id" not in second


def test_the_console_form_is_one_line_even_for_hostile_values() -> None:
    stream, log = written(log_format="console")
    log.info("request", path="a\nb\x1b[31m", note="two words")
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert 'note="two words"' in line


def test_levels_below_the_setting_are_silent() -> None:
    stream, log = written(log_format="json", log_level="warning")
    log.info("quiet")
    log.debug("quiet")
    assert stream.getvalue() == ""


def test_a_traceback_is_added_only_when_asked_for() -> None:
    stream, log = written(log_format="json")
    try:
        raise ValueError("inner")
    except ValueError:
        log.error("with", trace=True)
        log.error("without")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert "ValueError: inner" in first["traceback"]
    assert "traceback" not in second


def test_auto_is_json_where_no_terminal_is() -> None:
    stream, log = written()
    log.info("x")
    assert json.loads(stream.getvalue())["event"] == "x"


def test_every_json_line_begins_with_the_number_of_its_process_also_those_written_together() -> None:
    stream = io.StringIO()
    configure_logs(ObservabilitySettings(log_format="json"), stream, mark={"process": 3})
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, LineHandler)
    handler.collected += [_Line("one"), _Line('a "brace" \n{ inside')]
    Log("test").info("two", path="x")
    lines = stream.getvalue().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["process"] * 3
    assert [json.loads(line)["process"] for line in lines] == [3] * 3
    assert [json.loads(line)["event"] for line in lines] == ["one", 'a "brace" \n{ inside', "two"]


def test_a_console_line_tells_the_process_before_its_other_fields() -> None:
    stream = io.StringIO()
    configure_logs(ObservabilitySettings(log_format="console"), stream, mark={"process": 2})
    Log("test").info("done", path="x")
    assert stream.getvalue().rstrip().endswith("done  process=2 path=x")


def test_without_a_mark_lines_are_as_they_were() -> None:
    stream = io.StringIO()
    configure_logs(ObservabilitySettings(log_format="json"), stream)
    Log("test").info("done")
    assert "process" not in json.loads(stream.getvalue())
