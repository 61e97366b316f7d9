"""The request log: what is kept of each request, how it gets there, and how it is found again."""
