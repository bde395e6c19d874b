"""The `replank` command: a client of the control socket, and the way to start a host."""
