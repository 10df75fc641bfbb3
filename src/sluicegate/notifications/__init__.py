"""Telling those who wait: job events as they are stored, with resume, and progress between them."""
