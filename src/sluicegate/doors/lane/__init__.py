"""The fast lane: chat and other interactive calls, relayed between two sockets without a task for each.

orders       what a door asks the lane to relay, and how it is said in the caller's dialect
relay_call   one call, from the choice of a backend to its end
scan         tokens counted in passing
exchanges    every running call: bounded, counted, cancelled by id, drained
refusals     what an upstream's error answer means for the caller
http_call    a call whose caller is an HTTP connection
lane         the hot routes
"""
