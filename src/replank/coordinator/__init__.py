"""The coordinator: runs the eight phases over one transaction at a time for each set of modules."""
