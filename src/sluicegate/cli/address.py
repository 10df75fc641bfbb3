"""Whether a gateway could listen at an address. Apart from the client's modules: `serve` must start fast."""

import socket


def try_to_listen(host: str, port: int) -> None:
    """Take the address as the gateway would, and let it go. Raises `OSError` when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    with socket.create_server((str(address[0]), port), family=family):
        pass
