"""The HTTP/1.1 client behind every chat backend: pooled connections that push what arrives into a sink.

    client ▶ pool ▶ an idle connection, or a dial that makes one ▶ connection ▶ reader (bytes into an answer)

Foreign errors end here: what leaves is an answer, `BackendUnavailable`, `BackendTimeout` or `BackendFailed`.
"""

from sluicegate.backends.upstream.client import UpstreamClient

__all__ = ["UpstreamClient"]
