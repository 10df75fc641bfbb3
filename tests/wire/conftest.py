"""The real client libraries talk to one real gateway."""

from collections.abc import Iterator

import pytest
from tests.gateway import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        running.wait_ready()
        yield running
