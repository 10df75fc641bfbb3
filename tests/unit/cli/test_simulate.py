"""``sluicegate simulate``: tables, JSON, a figure, and clear words for what cannot work."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sluicegate.cli import main

TINY = """
title = "two tenants"
models = ["a", "b"]
horizon = 300
[[tenants]]
name = "whale"
tier = "free"
group = "whale"
burst = 20
[[tenants]]
name = "pro"
tier = "pro"
load = 0.5
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(TINY)
    return file


def test_the_tables_have_a_line_for_each_policy_and_a_column_for_each_group(tiny: Path) -> None:
    result = CliRunner().invoke(main, ["simulate", str(tiny), "--seeds", "2"])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "two tenants, 2 seeds"
    assert lines[2].split() == ["policy", "swaps", "useful", "makespan", "longest", "pro", "whale"]
    assert [line.split("  ")[0] for line in lines[3:7]] == ["fifo", "strict tiers", "greedy affinity", "ours"]
    assert result.stderr == ""


def test_json_holds_the_same_and_nothing_else_is_on_stdout(tiny: Path, tmp_path: Path) -> None:
    figure = tmp_path / "waits.svg"
    arguments = ["simulate", str(tiny), "--policy", "ours", "--seeds", "1", "--json", "--plot", str(figure)]
    result = CliRunner().invoke(main, arguments)
    value = json.loads(result.stdout)

    assert (value["title"], value["seeds"]) == ("two tenants", 1)
    (ours,) = value["policies"]
    assert ours["policy"] == "ours"
    assert ours["waits"]["whale"]["jobs"] == 20
    assert figure.read_text().startswith("<?xml")


def test_the_same_command_prints_the_same_twice(tiny: Path) -> None:
    first, second = (CliRunner().invoke(main, ["simulate", str(tiny), "--json"]).stdout for _ in range(2))

    assert first == second


def test_the_example_is_a_file_that_works(tmp_path: Path) -> None:
    example = CliRunner().invoke(main, ["simulate", "--example"]).stdout
    file = tmp_path / "mine.toml"
    file.write_text(example)
    result = CliRunner().invoke(main, ["simulate", str(file), "--policy", "fifo", "--seeds", "1"])

    assert result.exit_code == 0, result.output
    assert "35 tenants and a whale" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "waits.gif"], "use .png, .svg, .pdf"),
        (["--policy", "our"], 'did you mean "ours"?'),
        (["absent.toml"], "no such file"),
    ],
    ids=["plot", "policy", "file"],
)
def test_what_cannot_work_ends_with_code_2_and_the_mend(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, ["simulate", *arguments])

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_load_that_would_take_hours_is_refused(tiny: Path) -> None:
    tiny.write_text(TINY.replace("burst = 20", "burst = 1_000_000\nevery = 10"))
    result = CliRunner().invoke(main, ["simulate", str(tiny)])

    assert result.exit_code == 2
    assert "lower the load or the horizon" in result.stderr


def test_a_figure_that_cannot_be_written_is_a_clear_failure(tiny: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["simulate", str(tiny), "--seeds", "1", "--plot", str(tmp_path / "no" / "a.svg")])

    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
