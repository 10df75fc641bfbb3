"""The doors: parse a dialect, call the rooms behind, render the answer in the same dialect.

`server` joins them behind one port; `endpoint` is how a door declares a route; `problems` renders errors in
each dialect; `streams` writes server-sent events and notices callers who leave; `relay` is the path of chat bytes.
Doors never import one another.
"""
