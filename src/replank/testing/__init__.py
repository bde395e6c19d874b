"""The test kit: a simulated loop, a journal in memory, histories, the laws of migrations."""

from replank.testing.migrations import MigrationsBroken, check_migrations

__all__ = ["MigrationsBroken", "check_migrations"]
