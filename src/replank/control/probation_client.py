"""What `Client` can ask of a version on probation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import urlencode

from replank.control import wire
from replank.report import ProbationReport, ReloadReport

T = TypeVar("T")
OnLine = Callable[[Any], None]
Decision = Literal["promote", "pause", "resume"]


class AsksProbation:
    """The probation's part of a client."""

    def probation(self, module: str) -> ProbationReport:
        """Return how the version of a module that is on probation does.

        Args:
            module: Its name.
        """
        return self._get(f"/control/probation?{urlencode({'module': module})}", ProbationReport)

    def decide(self, module: str, action: Decision) -> ProbationReport:
        """Promote a version on probation, or let its probation stand still or go on.

        Args:
            module: Its name.
            action: What to do.
        """
        body = wire.ProbationRequest(module=module, action=action)
        return self._post("/control/probation", body, ProbationReport)

    def abort(self, module: str, *, on_line: OnLine | None = None) -> ReloadReport:
        """Send a version on probation back, its whole transaction, and return the report.

        Args:
            module: Its name.
            on_line: Called with each event as it happens.
        """
        return self._follow(
            "/control/abort", wire.AbortRequest(module=module, stream=True), on_line
        )

    def _get(self, path: str, kind: type[T]) -> T:
        raise NotImplementedError

    def _post(self, path: str, body: Any, kind: type[T]) -> T:
        raise NotImplementedError

    def _follow(self, path: str, body: Any, on_line: OnLine | None) -> ReloadReport:
        raise NotImplementedError


__all__ = ["AsksProbation"]
