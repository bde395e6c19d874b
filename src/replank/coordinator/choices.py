"""What one reload is told beside what to reload: it comes before the configuration."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from replank.config import BadRecordPolicy, StateMode
from replank.errors import UsageError


class Choices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Choices for one reload; None means as configured."""

    on_bad_record: BadRecordPolicy | None = None
    """What becomes of records that do not migrate."""
    quarantine_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Records of each module that may be set aside."""
    mode: StateMode | None = None
    """How the state travels."""
    over_limits: bool = False
    """Whether `max_pause_s` and `max_memory_bytes` may be exceeded this once."""


AS_CONFIGURED: Final = Choices()


def choose(**given: object) -> Choices:
    """Check what a caller has chosen.

    Args:
        given: Fields of `Choices`.

    Raises:
        UsageError: There is no such choice, or it has no such value.
    """
    try:
        return msgspec.convert(given, Choices)
    except msgspec.ValidationError as error:
        raise UsageError(
            "the reload is told something that it does not know",
            found=", ".join(f"{name} = {value!r}" for name, value in given.items() if value),
            expected=str(error),
            do='on_bad_record is "abort", "quarantine" or "default"; quarantine_max from 0; '
            'mode "auto", "eager", "windowed" or "lazy"; over_limits True or False',
        ) from None


def given(choices: Choices) -> dict[str, object]:
    """Return only what was chosen, by name."""
    found = {name: getattr(choices, name) for name in choices.__struct_fields__}
    return {
        name: value for name, value in found.items() if value is not None and value is not False
    }


def joined(first: Choices, second: Choices) -> Choices:
    """Return the choices for two requests that become one; where they differ, the first's hold."""
    return first if first == second else Choices(**{**given(second), **given(first)})  # type: ignore[arg-type]


__all__ = ["AS_CONFIGURED", "Choices", "choose", "given", "joined"]
