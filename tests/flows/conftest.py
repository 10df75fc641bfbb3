"""One gateway with the built-in models for every flow that does not break it."""

from collections.abc import Iterator

import pytest
from tests.gateway import RunningGateway, picture, running_gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def asset(gateway: RunningGateway) -> str:
    """A small picture that is already uploaded."""
    return gateway.upload(picture())
