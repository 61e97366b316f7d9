"""Tests of what both sides agree on: pure, without a server unless they say so."""
