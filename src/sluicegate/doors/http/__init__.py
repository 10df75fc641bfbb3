"""HTTP/1.1 on the socket: every caller's connection, from the bytes to a request and back.

server       the listening sockets, all connections, and their end
connection   one caller: turns, keep-alive, time limits, refusals
reading      its bytes, parsed into requests
request      what was asked, and the checks that a parser leaves to its user
answers      the bytes of heads and chunks
unsent       what a caller has not taken yet
asgi         the bridge to the ASGI application, for every route that is not on the lane
websocket    the same for WebSockets, with `handshake` and `messages`
contracts    the neighbours of a connection
"""
