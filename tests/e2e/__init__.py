"""Tests of the whole, over real sockets and through real failures."""
