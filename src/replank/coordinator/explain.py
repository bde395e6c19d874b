"""Add to an error where in the candidate's own source it came from."""

from __future__ import annotations

from collections.abc import Iterable

from replank.code.generation import Generation
from replank.code.trace import candidate_traceback, location_of
from replank.errors import ReplankError


def explain(error: BaseException, candidates: Iterable[Generation]) -> None:
    """Fill in location and traceback from the first candidate whose code is in the traceback.

    Args:
        error: What was raised; its cause counts when it is one of our own errors.
        candidates: The generations whose code may have raised it.
    """
    if not isinstance(error, ReplankError):
        return
    raised = error.__cause__ or error
    if getattr(raised, "remote_location", None):  # its process has told
        error.location = error.location or raised.remote_location  # type: ignore[attr-defined]
        told: str = raised.remote_frames  # type: ignore[attr-defined]
        error.candidate_traceback = error.candidate_traceback or told
        return
    for one in candidates:
        place = location_of(raised, one.version)
        if place is not None:
            error.location = error.location or place
            if not error.candidate_traceback:
                error.candidate_traceback = candidate_traceback(
                    raised, one.version, one.code.private_name
                )
            return
