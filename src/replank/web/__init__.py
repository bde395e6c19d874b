"""The dashboard: one page on the host's own doors, and what it is told."""
