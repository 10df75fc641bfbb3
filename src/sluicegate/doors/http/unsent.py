"""How much of an answer its caller has not taken yet."""

import asyncio
import sys


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Bytes in our buffer and, on Linux, in the system's: the latter empties in big steps, so that a caller who reads a
    few kilobytes a second seems to stand still for a minute if one looks at ours alone. Source: tcp(7), SIOCOUTQ."""
    ours = transport.get_write_buffer_size()
    socket = transport.get_extra_info("socket")
    if sys.platform != "linux" or socket is None:
        return ours
    import fcntl
    import termios

    try:
        told = fcntl.ioctl(socket.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return ours
    return ours + int.from_bytes(told, sys.byteorder)
