"""What stands on the pages about states: tables alone, a whole host, and the disk."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.lines import Row
from bench.markdown import aim, came_about, grid, slashed

MEMORY_AIM = 1.2
WAIT_AIM_MS = 10.0
WITH_WINDOW = {"window": "windowed", "lazy": "lazy"}
IN_THE_PAUSE = {"pause_copy": "records rebuilt", "deepcopy": "`deepcopy`", "pickle": "pickle"}


def tables(rows: list[Row]) -> str:
    head = (
        *("records", "way", "requests a second", "pause median / longest", "copied in"),
        *("memory on top, in states", "longest wait before / copying / folding / on probation"),
        "lost updates",
    )
    served = [row for row in rows if row.get("case") in WITH_WINDOW]
    cells = (
        (
            row["records"],
            WITH_WINDOW[row["case"]],
            row["rate"],
            _median_longest(row),
            f"{row['copy_s']:.2f} s",
            row["grown_over_state"],
            slashed(*(row[part]["max_ms"] for part in _PARTS), unit="ms"),
            row["lost"],
        )
        for row in served
    )
    parts = [came_about(rows), grid(head, cells)]
    copied = [row for row in rows if row.get("case") in IN_THE_PAUSE]
    if copied:
        cells = ((r["records"], IN_THE_PAUSE[r["case"]], r["pause_ms"]) for r in copied)
        parts += ["The same with everything copied while calls wait:"]
        parts += [grid(("records", "way", "pause, ms"), cells)]
    back = [row for row in rows if row.get("case") == "rollback"]
    if back:
        head = ("records", "writes since", "rollback's pause median / longest", "lost")
        cells = ((row["records"], row["writes"], _median_longest(row), row["lost"]) for row in back)
        parts += ["A rollback with the writes since:", grid(head, cells)]
    return "\n\n".join([*parts, "\n".join(_table_aims(served))])


def _median_longest(row: Row) -> str:
    return slashed(row["pause_ms"], row["pause_ms_worst"], unit="ms")


_PARTS = ("before", "copying", "folding", "following")


def _table_aims(served: list[Row]) -> list[str]:
    found = []
    for row in served:
        name = f"{row['records']:,} records, {WITH_WINDOW[row['case']]}"
        found += [
            aim(
                f"{name}: at most {MEMORY_AIM} states of memory on top",
                reached=row["grown_over_state"] <= MEMORY_AIM,
            ),
            aim(
                f"{name}: no request {WAIT_AIM_MS:.0f} ms above the worst before",
                reached=row["worst_over_before_ms"] <= WAIT_AIM_MS,
            ),
        ]
    return found


def pause_by_size(rows: list[Row]) -> str:
    return _pauses(rows, "size")


def pause_by_writes(rows: list[Row]) -> str:
    return _pauses(rows, "writes")


def _pauses(rows: list[Row], case: str) -> str:
    head = (
        *("records", "writes a second", "pause", "rollback's pause", "reload in all"),
        *("longest wait before / with the reload / with the rollback", "failed", "lost writes"),
    )
    waits = ("longest_wait_quiet_ms", "longest_wait_ms", "longest_wait_rollback_ms")
    own = [row for row in rows if row.get("case") == case]
    if not own:
        return "Not measured yet."
    cells = (
        (
            row["records"],
            row["writes_per_s"],
            slashed(row["pause_ms"], unit="ms"),
            slashed(row.get("rollback_pause_ms"), unit="ms"),
            f"{row['reload_s']:.2f} s",
            slashed(*(row.get(key) for key in waits), unit="ms"),
            row["failed"],
            f"{row['lost']:,} of {row['writes']:,}",
        )
        for row in own
    )
    return f"{came_about(own)}\n\n{grid(head, cells)}"


def memory(rows: list[Row]) -> str:
    head = ("records", "state", "before", "at most", "after the reload", "at the end")
    keys = ("state", "held_before", "held_at_most", "held_after_reload", "held_at_end")
    own = [row for row in rows if row.get("case") == "size"]
    cells = ((row["records"], *(row[f"{key}_mb"] for key in keys)) for row in own)
    return grid(head, cells) + "\n\nIn MB, of the whole process."


def disk(rows: list[Row]) -> str:
    head = (
        *("what", "times", "host stands still for the fork", "takes"),
        *("longest wait of a call before", "meanwhile", "over the worst before"),
    )
    kinds = dict.fromkeys(row["case"] for row in rows if "during" in row)
    cells = []
    for kind in kinds:
        own = [row for row in rows if row.get("case") == kind]
        cells.append(
            (
                kind,
                len(own),
                _spread(own, lambda row: row.get("fork_ms"), "ms"),
                _spread(own, lambda row: row["seconds"], "s"),
                _spread(own, lambda row: row["before"]["max_ms"], "ms"),
                _spread(own, lambda row: row["during"]["max_ms"], "ms"),
                _spread(own, lambda row: row["worst_over_before_ms"], "ms"),
            )
        )
    parts = [came_about(rows), grid(head, cells) + "\n\nLeast / median / most."]
    parts += [
        f"The start with that state took {row['seconds']:.1f} s and at most {row['peak_mb']} MB; "
        f"{row['lost']} calls of it were lost."
        for row in rows
        if row.get("case") == "start"
    ]
    over = [row["worst_over_before_ms"] for row in rows if "worst_over_before_ms" in row]
    text = f"no call waits {WAIT_AIM_MS:.0f} ms longer than the worst before"
    return "\n\n".join([*parts, aim(text, reached=max(over, default=0.0) <= WAIT_AIM_MS)])


def _spread(rows: list[Row], of: Callable[[Row], float | None], unit: str) -> str | None:
    values = [value for row in rows if (value := of(row)) is not None]
    if not values:
        return None
    return slashed(min(values), statistics.median(values), max(values), unit=unit)
