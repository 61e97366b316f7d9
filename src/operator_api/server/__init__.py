"""Answers the calls: one pipeline for every request, features that plug into it, and engines."""
