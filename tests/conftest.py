"""What holds for every test: the same examples each time, and no clock that judges them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# Many tests start a host as a process of its own; each would compile all of Replank anew where the
# environment forbids to keep what was compiled (modules are compiled from their source in any case).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("suite")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With REPLANK_MUST_RUN a skipped test is a failure: CI has installed all that it needs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        os.environ.get("REPLANK_MUST_RUN")
        and reporter is not None
        and reporter.stats.get("skipped")
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
