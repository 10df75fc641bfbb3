"""What the documents say is held against what the code has."""

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import sluicegate.app.gateway  # noqa: F401 - so that every error of the doors is known
from sluicegate.cli import main
from sluicegate.errors import SluicegateError
from sluicegate.observability.metrics import Metrics
from sluicegate.settings import load_settings

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def fenced(language: str) -> list[tuple[str, str]]:
    """Every example of a language: where it stands, and its text."""
    return [
        (f"{name_of(document)}:{document.read_text('utf-8')[: found.start()].count(chr(10)) + 1}", found.group(2))
        for document in DOCUMENTS
        for found in _FENCE.finditer(document.read_text("utf-8"))
        if found.group(1) == language
    ]


def anchors(document: Path) -> set[str]:
    """The anchors that a page's headings have."""
    heads = re.findall(r"^#+ (.*)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def error_kinds(kind: type[SluicegateError] = SluicegateError) -> Iterator[type[SluicegateError]]:
    """The tree of errors that the package itself defines."""
    for below in kind.__subclasses__():
        if below.__module__.startswith("sluicegate."):
            yield below
            yield from error_kinds(below)


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, f"{path} {name}")


def load_script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def public_metrics() -> set[str]:
    """Our metrics' names as a scrape shows them."""
    names = re.findall(r"^# TYPE (\w+) ", Metrics().render().decode(), re.MULTILINE)
    return {name for name in names if name.startswith(("http_", "ai_", "sluicegate_"))}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    dead = []
    for target in _LINK.findall(document.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        place = (document.parent / file) if file else document
        if not place.exists() or (anchor and anchor not in anchors(place)):
            dead.append(target)
    assert not dead


def test_the_settings_page_is_what_its_generator_writes() -> None:
    generator = load_script(ROOT / "docs" / "write_settings.py")
    page = (GUIDES / "settings.md").read_text("utf-8")
    assert page == generator.render(), "run docs/write_settings.py"
    assert all(f"`{path}`" in page for path in generator.field_paths())


def test_every_toml_example_loads(tmp_path: Path) -> None:
    examples = fenced("toml")
    assert len(examples) >= 3
    for place, text in examples:
        file = tmp_path / "sluicegate.toml"
        file.write_text(text, "utf-8")
        named = [backend.get("api_key_env") for backend in tomllib.loads(text).get("backends", [])]
        settings = load_settings(file, environment={name: "a key" for name in named if name})
        assert settings.backends, place


def test_every_json_example_is_json() -> None:
    for place, text in fenced("json"):
        assert isinstance(json.loads(text), dict), place


def test_every_metric_is_explained_and_no_other() -> None:
    page = (GUIDES / "metrics.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert explained == public_metrics()


def test_every_query_asks_for_metrics_that_exist() -> None:
    queries = [re.sub(r'"[^"]*"', "", text) for _, text in fenced("promql")]
    asked = {name for query in queries for name in re.findall(r"\b(?:http|ai|sluicegate)_\w+", query)}
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= public_metrics()


def test_every_error_code_is_explained() -> None:
    page = (GUIDES / "http.md").read_text("utf-8")
    codes = {SluicegateError.code, *(kind.code for kind in error_kinds())}
    assert {"draining", "canceled", "internal_error"} <= codes
    assert not {code for code in codes if f"`{code}`" not in page}


def test_every_code_of_a_failed_job_is_explained() -> None:
    page = (GUIDES / "http.md").read_text("utf-8")
    sources = "".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    codes = set(re.findall(r'JobError\(\s*code="(\w+)"', sources))
    assert "attempts_exhausted" in codes
    assert not {code for code in codes if f"`{code}`" not in page}


def test_every_command_is_explained() -> None:
    page = (GUIDES / "command-line.md").read_text("utf-8")
    assert not [path for path, _ in commands(main, "sluicegate") if path not in page]


def test_the_command_line_page_names_no_option_that_is_not_there() -> None:
    page = (GUIDES / "command-line.md").read_text("utf-8")
    there = {name for _, command in commands(main, "sluicegate") for option in command.params for name in option.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert named
    assert not named - there - {"--help", "--version"}


def test_every_room_has_its_page_in_the_order_of_the_flow() -> None:
    pages = sorted(path.name for path in (ROOT / "docs" / "architecture").glob("*.md"))
    assert [page[:2] for page in pages] == [f"{number:02}" for number in range(len(pages))]
    the_map = (ROOT / "docs" / "architecture" / "00-map.md").read_text("utf-8")
    assert all(page in the_map for page in pages[1:])


def test_every_path_of_the_repository_that_a_page_names_exists() -> None:
    wrong = []
    for document in DOCUMENTS:
        for named in re.findall(r"`((?:src|tests|docs)/[\w./-]+\w)`", document.read_text("utf-8")):
            if not (ROOT / named).exists():
                wrong.append(f"{name_of(document)}: {named}")
    assert not wrong


def test_every_decision_tells_context_choice_and_cost() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in decisions] == list(range(1, len(decisions) + 1))
    for path in decisions:
        heads = re.findall(r"^## (.*)$", path.read_text("utf-8"), re.MULTILINE)
        assert heads == ["Context", "Choice", "What it costs"], path.name
