"""What one reload does about records that do not migrate: set aside or mended, and told.

Only tables and dicts have records that can be taken one by one; a failure anywhere else, or in a
step that works on the whole state, ends the reload as ever.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from replank.errors import MigrationError, TooManyBadRecords
from replank.plain import show
from replank.report_state import BadRecordReport
from replank.state.items import Interpreted
from replank.state.limits import OnBadRecord, StateLimits
from replank.state.mending import mended
from replank.state.residue import PARKED

NAMED = 5
"""Records that an error names."""
REPORTED = 20
"""Records that a report names; the quarantine holds all of them."""


class BadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record that did not migrate, without its classes."""

    table: str
    key: Any
    value: Any
    step: str
    field: str
    """The record's field at fault; "" when it is not one."""
    reason: str
    filled: tuple[str, ...] = ()
    """The fields that got their defaults; () for a record that was set aside."""
    down: bool = False
    """Whether it was the way down that it did not go."""

    def report(self) -> BadRecordReport:
        """Return what a report says of it."""
        return BadRecordReport(
            table=self.table,
            key=show(self.key),
            step=self.step,
            field=self.field,
            reason=self.reason,
            filled=self.filled,
        )


class BadTable:
    """The bad records of one table.

    Args:
        whole: Those of the module.
        way: The way of the table's items.
        down: Whether the records go down: a follower's.
    """

    def __init__(self, whole: BadRecords, way: Interpreted, *, down: bool = False) -> None:
        self.noted: dict[Any, BadRecord] = {}
        self.left_out: Collection[Any] | None = None
        """The keys that the other version really lacks now; None when `noted` says it all."""
        self._whole = whole
        self._way = way
        self._down = down

    def __bool__(self) -> bool:
        return bool(self.noted)

    def live(self) -> list[BadRecord]:
        """Return what is true now: a key may have got another value unseen, as an alias."""
        if self.left_out is None:
            return list(self.noted.values())
        return [one for key, one in self.noted.items() if one.filled or key in self.left_out]

    def forget(self, key: Any) -> None:
        """Drop what is noted of a key: it is gone, or has a value that migrates."""
        self.noted.pop(key, None)

    def handle(self, key: Any, record: Any, error: Exception) -> Any:
        """Decide about a live record; returns the new one, or `PARKED` to leave it out.

        Raises:
            MigrationError: It may neither be set aside nor mended.
        """
        side = 1 if self._down else 0
        try:
            node = self._way.freeze(record, side)
        except Exception:
            raise error from None  # it cannot even be taken apart, so it cannot be kept
        made = self.handle_node(key, node, error)
        return made if made is PARKED else self._way.thaw(made, 1 - side)

    def handle_node(self, key: Any, node: Any, error: Exception) -> Any:
        """Decide about a record without classes; returns its new node or `PARKED`.

        Raises:
            MigrationError: It may neither be set aside nor mended.
        """
        side = 1 if self._down else 0
        told = self._explained(node, error)
        filled: tuple[str, ...] = ()
        made: Any = PARKED
        if self._whole.action is OnBadRecord.DEFAULT:
            try:
                made, filled = mended(self._way, node, down=self._down)
            except MigrationError as why:
                raise _not_mended(key, told, why) from error
            if not filled:
                raise _not_mended(key, told, told) from error
        noted = BadRecord(
            table=self._way.fields[side],
            key=self._way.freeze_key(key, side),
            value=node,
            step=told.step,
            field=str(told.place[-1]) if len(told.place) > 2 else "",  # noqa: PLR2004 - table, key
            reason=told.what,
            filled=filled,
            down=self._down,
        )
        self.noted.pop(key, None)
        self.noted[key] = noted
        if made is PARKED:
            self._whole.refuse_more(noted)
        return made

    def _explained(self, node: Any, error: Exception) -> MigrationError:
        """Return what the tree engine says of it: with step and place."""
        if isinstance(error, MigrationError) and error.step and error.place:
            return error
        if not self._down:
            try:
                self._way.thaw(self._way.up_node(node))
            except MigrationError as told:
                return told
            except Exception as other:
                error = other
        if isinstance(error, MigrationError):
            return error
        return MigrationError(f"{type(error).__name__}: {error}")


class BadRecords:
    """The bad records of one module in one reload.

    Args:
        module: Its name.
        limits: Say what becomes of them, and how many may be set aside.
    """

    def __init__(self, module: str, limits: StateLimits) -> None:
        self.module = module
        self.action = limits.on_bad_record
        self.quarantine_max = limits.quarantine_max
        self._tables: list[BadTable] = []

    @property
    def tolerant(self) -> bool:
        """Whether a bad record need not end the reload."""
        return self.action is not OnBadRecord.ABORT

    def table(self, way: Interpreted, *, down: bool = False) -> BadTable | None:
        """Return what decides about the records of one table; None when none is let through."""
        if not self.tolerant:
            return None
        table = BadTable(self, way, down=down)
        self._tables.append(table)
        return table

    def all(self) -> list[BadRecord]:
        """Return what was set aside and what was mended."""
        return [one for table in self._tables for one in table.live()]

    def set_aside(self) -> list[BadRecord]:
        """Return the records that the other version does without."""
        return [one for one in self.all() if not one.filled and not one.down]

    def refuse_more(self, last: BadRecord) -> None:
        """Refuse a record more than may be set aside.

        Args:
            last: The last one.

        Raises:
            TooManyBadRecords: It is one too many.
        """
        if sum(len(table.noted) for table in self._tables) <= self.quarantine_max:
            return
        bad = [*(one for one in self.set_aside() if one is not last), last]
        if len(bad) <= self.quarantine_max:
            return
        first = "; ".join(f"{one.table}[{show(one.key, 40)}]: {one.reason}" for one in bad[:NAMED])
        raise TooManyBadRecords(
            f"more than {self.quarantine_max} records do not migrate",
            module=self.module,
            found=first + ("; ..." if len(bad) > NAMED else ""),
            expected=f"at most quarantine_max = {self.quarantine_max}",
            do="mend the step, or raise quarantine_max",
        )


def _not_mended(key: Any, told: MigrationError, why: MigrationError) -> MigrationError:
    error = MigrationError(
        f"record {key!r} does not migrate, and no default can take the place of what fails: "
        f"{told.what}",
        found=told.found,
        expected=f"a field with a default ({why.what})",
        do='give the field a default, mend the step, or set on_bad_record = "quarantine"',
    )
    error.place, error.step = told.place, told.step
    return error


__all__ = ["NAMED", "REPORTED", "BadRecord", "BadRecords", "BadTable"]
