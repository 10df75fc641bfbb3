"""Parts of `Wording` that dialects share."""


class EventWording:
    """Server-sent events: a comment keeps a silent stream alive."""

    heartbeat = b": heartbeat\n\n"
    content_type = "text/event-stream; charset=utf-8"


class LineWording:
    """A JSON object a line: a space before the next one keeps a silent stream alive.

    Readers of lines see it as white space inside the JSON text that follows (RFC 8259, section 2). An empty line would
    break Ollama's official clients, which decode every line.
    """

    heartbeat = b" "
    content_type = "application/x-ndjson"
