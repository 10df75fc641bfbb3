"""The gate keeps foreign web pages out and lets everybody else in as the local tenant."""

from collections.abc import Callable

import pytest

from sluicegate.admission.gate import Gate, is_loopback
from sluicegate.domain.fairness import Tier
from sluicegate.domain.principal import LOCAL_TENANT, Principal
from sluicegate.errors import InvalidRequest, OriginRefused

TIER = Tier(name="pro", weight=16.0, queued_jobs=5)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.nip.example", False),
        ("2130706433", False),
    ],
)
def test_only_names_of_this_machine_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8000"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "[::1]:8000"},
        {"host": "127.0.0.1:8000", "origin": "https://app.example"},
        {"host": "app.example"},
    ],
)
def test_callers_that_are_allowed_act_as_the_local_tenant(headers: dict[str, str]) -> None:
    gate = Gate(host="127.0.0.1", cors_origins=["https://app.example/"], local_tier=TIER)
    assert gate.admit(headers) == Principal(LOCAL_TENANT, TIER)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000", "origin": "https://evil.example"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:9999"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "evil.example:8000"},
        {"host": "evil.example:8000", "origin": "http://evil.example:8000"},
    ],
)
def test_pages_of_other_sites_and_rebound_names_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(OriginRefused, match="cors_origins"):
        Gate(host="127.0.0.1", cors_origins=[], local_tier=TIER).admit(headers)


@pytest.mark.parametrize(
    "headers", [{"host": "["}, {"host": "[::1"}, {"host": "a]b"}, {"host": "127.0.0.1", "origin": "http://["}]
)
def test_a_header_that_is_no_address_is_refused_as_malformed(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="is no address"):
        Gate(host="127.0.0.1", cors_origins=[], local_tier=TIER).admit(headers)


def test_behind_a_public_address_any_host_name_is_served_but_foreign_origins_are_not() -> None:
    gate = Gate(host="0.0.0.0", cors_origins=[], local_tier=TIER)
    assert gate.admit({"host": "gateway.example", "origin": "https://gateway.example"}).tenant == "local"
    with pytest.raises(OriginRefused):
        gate.admit({"host": "gateway.example", "origin": "https://evil.example"})


FIELDS = [
    {},
    {"host": "127.0.0.1:8000"},
    {"host": "LOCALHOST", "origin": "https://app.example"},
    {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"},
    {"host": "127.0.0.1:8000", "origin": "https://evil.example"},
    {"host": "evil.example"},
    {"host": "["},
    {"host": "127.0.0.1", "origin": "http://["},
    {"host": "127.0.0.1", "origin": "https://\xe9.example"},
]


@pytest.mark.parametrize("headers", FIELDS)
def test_headers_as_they_came_are_judged_as_decoded_ones_are_also_the_second_time(headers: dict[str, str]) -> None:
    gate = Gate(host="127.0.0.1", cors_origins=["https://app.example"], local_tier=TIER)
    fields = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    expected = outcome(lambda: gate.admit(headers))
    for more in ({}, {b"x-other": b"1"}, {}):
        assert outcome(lambda more=more: gate.admit_fields({**fields, **more})) == expected  # type: ignore[misc]


def outcome(admit: Callable[[], Principal]) -> object:
    """Who is admitted, or why nobody is."""
    try:
        return admit()
    except (InvalidRequest, OriginRefused) as error:
        return type(error), error.message


def test_what_one_page_may_another_may_not_although_the_host_is_the_same() -> None:
    gate = Gate(host="127.0.0.1", cors_origins=["https://app.example"], local_tier=TIER)
    gate.admit_fields({b"host": b"127.0.0.1", b"origin": b"https://app.example"})
    for origin in (b"https://evil.example", b"null"):
        with pytest.raises(OriginRefused):
            gate.admit_fields({b"host": b"127.0.0.1", b"origin": origin})
    gate.admit_fields({b"host": b"127.0.0.1"})


def test_many_names_of_one_machine_are_all_admitted() -> None:
    gate = Gate(host="127.0.0.1", cors_origins=[], local_tier=TIER)
    for number in range(3_000):
        assert gate.admit_fields({b"host": b"app%d.localhost" % number}).tenant == "local"
