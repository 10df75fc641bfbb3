"""The simple chat API under ``/api/chat``: a small dialect for web pages, over the same relay."""
