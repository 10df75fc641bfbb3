"""Finding every fault of a value."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from sluicegate.domain.validation import MOST_FAULTS, did_you_mean, find_faults


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    colour: Literal["red", "green"]
    size: Annotated[int, Meta(ge=1)] = 1


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaves: Annotated[list[Leaf], Meta(min_length=1)]
    best: Leaf | None = None
    named: dict[str, Leaf] = {}
    note: str = ""


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ({"leaves": [{"colour": "red"}]}, []),
        ({"leaves": []}, ["leaves"]),
        ({}, ["leaves"]),
        ([], [""]),
        ({"leaves": 3}, ["leaves"]),
        ({"leaves": [{"colour": "reed"}, {"colour": "red", "size": 0}]}, ["leaves[0].colour", "leaves[1].size"]),
        ({"leaves": [{"colour": "red"}], "best": {"size": "x"}}, ["best.colour", "best.size"]),
        ({"leaves": [{"colour": "red"}], "named": {"a": {"colour": 1}}}, ["named.a.colour"]),
        ({"leaves": [{"colour": "red"}], "best": None, "note": 4, "nots": 1}, ["note", "nots"]),
    ],
)
def test_every_fault_is_found_at_its_path(value: Any, paths: list[str]) -> None:
    assert sorted(fault.path for fault in find_faults(value, Tree)) == sorted(paths)


_WORDS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["red", "green", "blue", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["leaves", "best", "named", "note", "colour", "size", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(_WORDS)
def test_it_finds_a_fault_exactly_when_msgspec_does(value: Any) -> None:
    try:
        msgspec.convert(value, Tree)
        is_sound = True
    except msgspec.ValidationError:
        is_sound = False
    assert (find_faults(value, Tree) == []) is is_sound


def test_a_hostile_value_costs_little_and_gives_a_short_answer() -> None:
    many = {"leaves": [{"colour": 1}] * 100_000, **{f"field{n}": n for n in range(10_000)}}
    found = find_faults(many, Tree)
    assert len(found) == MOST_FAULTS + 1
    assert "more faults" in found[-1].message
    (long,) = find_faults({"leaves": [{"colour": "red"}], "n" * 100_000: 1}, Tree)
    assert len(str(long)) < 500
    (wide,) = find_faults({"leaves": [{"colour": "red"}], "note": ["x" * 100_000]}, Tree)
    assert str(wide) == "note: expected str, got an array of 1 items"


def test_a_list_that_is_too_long_is_refused_without_a_look_inside() -> None:
    class Short(msgspec.Struct):
        leaves: Annotated[list[Leaf], Meta(max_length=2)]

    (fault,) = find_faults({"leaves": [{"colour": "nope"}] * 3}, Short)
    assert fault.path == "leaves"
    assert "length <= 2" in fault.message


def test_deep_nesting_is_a_fault_and_no_crash() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    assert find_faults({"leaves": [{"colour": "red"}], "note": value}, Tree)


def test_a_near_word_is_suggested_and_else_the_few_known_ones() -> None:
    assert did_you_mean("prot", ["port", "host"]) == 'did you mean "port"?'
    assert did_you_mean("zzz", ["port", "host"]) == "known: host, port"
    assert did_you_mean("zzz", []) is None
    assert did_you_mean("zzz", [f"name{n}" for n in range(99)]) is None


def test_text_deep_in_a_map_may_be_converted_where_it_is_excused() -> None:
    value = {"leaves": [{"colour": "red"}], "named": {"a": {"colour": "red", "size": "2"}}}
    assert [fault.path for fault in find_faults(value, Tree)] == ["named.a.size"]
    assert find_faults(value, Tree, lax={"named.a.size"}) == []
    wrong = {"leaves": [{"colour": "red"}], "named": {"a": {"colour": "red", "size": "big"}}}
    assert [fault.path for fault in find_faults(wrong, Tree, lax={"named.a.size"})] == ["named.a.size"]
