"""Pages for whoever debugs an integration."""
