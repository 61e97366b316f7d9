"""The documentation: the Markdown of ``docs/``, as a site that needs nothing from elsewhere."""
