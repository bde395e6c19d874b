"""Modules in processes of their own: the host's side, the worker's side, and the link between."""
