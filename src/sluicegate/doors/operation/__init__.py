"""For operators and tools: health, metrics, and the documentation of every route."""
