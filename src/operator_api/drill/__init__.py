"""Proof instead of opinion: a server that misbehaves by plan, and what a caller made of it."""
