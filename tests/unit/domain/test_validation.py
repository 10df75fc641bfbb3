"""Finding every fault of a value."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from sluicegate.domain.validation import did_you_mean, find_faults


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


def test_a_near_word_is_suggested_and_else_the_few_known_ones() -> None:
    assert did_you_mean("prot", ["port", "host"]) == 'did you mean "port"?'
    assert did_you_mean("zzz", ["port", "host"]) == "known: host, port"
    assert did_you_mean("zzz", []) is None
    assert did_you_mean("zzz", [f"name{n}" for n in range(99)]) is None
