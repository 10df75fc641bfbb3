"""The TLS context of an https upstream."""

import ssl
from pathlib import Path


def make_context(cafile: str | None = None) -> ssl.SSLContext:
    """A context that checks the server's certificate and name.

    Trusted is `cafile` alone where it is given, else what the system trusts (or SSL_CERT_FILE names); a machine without
    any such certificates takes those of the package certifi. Reading them takes tens of milliseconds.
    """
    context = ssl.create_default_context(cafile=cafile or _packaged_authorities())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _packaged_authorities() -> str | None:
    """The file of certifi, when the system has no authorities of its own."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())):
        return None
    try:
        import certifi
    except ImportError:
        return None
    return certifi.where()
