"""Tests of how secrets are kept."""
