"""Verification: what must hold before a candidate may serve."""
