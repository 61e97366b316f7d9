"""What the server and its clients agree on: pure data, no I/O and no clock."""
