"""Versions of code: stored by content, loaded side by side, probed in a child process."""
