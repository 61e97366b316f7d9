"""Tests of the drill: the faults, the plans, and the server that misbehaves."""
