"""Open files: every stream takes two, its caller's connection and its backend's."""

import resource

from sluicegate.observability.logs import Log
from sluicegate.settings import Settings

_SPARE = 100
"""The store, the log, listening sockets, connections between calls."""
_log = Log("sluicegate.descriptors")


def raise_descriptor_limit(settings: Settings) -> None:
    """Let this process open as many files as the system grants; a line in the log where that is too few for
    ``server.max_streams``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            hard = soft  # macOS names a limit that it does not grant
    wanted = 2 * settings.server.max_streams + _SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        _log.warning(
            "too few open files are allowed for server.max_streams",
            allowed=hard,
            wanted=wanted,
            mend=f"raise the limit (ulimit -n {wanted}, or LimitNOFILE= of the service), or lower server.max_streams",
        )
