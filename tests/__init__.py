"""The tests; a package, so that any test module can import from `tests` by name."""
