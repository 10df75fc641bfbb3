"""Base addresses."""

import pytest

from sluicegate.backends.upstream.address import Address


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target"),
    [
        ("http://gpu1:8000/v1", "gpu1", 8000, "gpu1:8000", "/v1/models"),
        ("http://gpu1/v1/", "gpu1", 80, "gpu1", "/v1/models"),
        ("https://api.example.com", "api.example.com", 443, "api.example.com", "/models"),
        ("http://[::1]:8000/team/a/v1", "::1", 8000, "[::1]:8000", "/team/a/v1/models"),
        ("http://user:secret@gpu1:1/v1", "gpu1", 1, "gpu1:1", "/v1/models"),
        ("http://bücher.example/v1", "xn--bcher-kva.example", 80, "xn--bcher-kva.example", "/v1/models"),
    ],
)
def test_an_address_is_taken_apart(url: str, host: str, port: int, authority: str, target: str) -> None:
    address = Address.parse(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)
    assert address.target("models") == target
    assert address.target("/health") == "/health"
    assert address.is_secure == url.startswith("https")


@pytest.mark.parametrize("url", ["", "gpu1:8000", "ftp://gpu1", "http://", "http://gpu1/a b", "http://gpu1/ä"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Address.parse(url)


@pytest.mark.parametrize("path", ["a b", "a\r\nb", "ä"])
def test_a_path_that_cannot_be_asked_for_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="cannot ask"):
        Address.parse("http://gpu1/v1").target(path)
