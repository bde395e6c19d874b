"""The doors to a running host: a Unix socket for its owner, HTTP on loopback for everyone."""
