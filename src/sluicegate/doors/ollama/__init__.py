"""Ollama's own API, for its clients: ``/api/generate``, ``/api/embed``, ``/api/tags`` and the rest.

calls    the hot routes: a call as an order that a backend of any dialect can take
foreign  what the order says to a backend of another dialect
answers  what the lane says and checks in a stream of this dialect
shape    which of two dialects a ``POST /api/chat`` is written in
models   lists of models, and the routes that would change them
"""
