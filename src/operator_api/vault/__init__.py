"""Keeping secrets: what is sealed can be opened only with the right key, in the right place."""
