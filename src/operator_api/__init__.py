"""Operator API: customer conversations over HTTP, with errors that say what to do next."""

__version__ = "0.1.0"
