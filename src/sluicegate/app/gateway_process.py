"""One of several gateway processes; run by a `Supervisor` as ``python -m sluicegate.app.gateway_process``."""

from sluicegate.app.gateway import Gateway
from sluicegate.app.inheritance import run_inherited
from sluicegate.app.place import Place
from sluicegate.supervision import tell_ready


async def _serve(place: Place) -> None:
    await Gateway(place.settings, place).run(lambda url: tell_ready(url=url))


def main() -> None:
    """Serve until SIGTERM, or the supervisor's death; then drain."""
    run_inherited(_serve)


if __name__ == "__main__":
    main()
