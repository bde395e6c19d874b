"""What stands on the pages about proofs: what was tried, how often, and what failed."""

from __future__ import annotations

from bench.lines import Row
from bench.markdown import came_about, grid


def proofs(rows: list[Row]) -> str:
    found = [(row, *told) for row in rows if (told := _told(row)) is not None]
    cells = ((f"`python -m bench.{row['bench']}`", text, failed) for row, text, failed in found)
    parts = [came_about(rows), grid(("command", "tried", "failed"), cells)]
    replay = [command for row in rows for command in row.get("replay", ())]
    if replay:
        parts.append("To replay what failed:\n\n" + "\n".join(f"- `{one}`" for one in replay))
    return "\n\n".join(parts)


def _told(row: Row) -> tuple[str, int] | None:
    """Return what one row tells: what was tried, and how much of it failed."""
    match row["bench"]:
        case "verify":
            return _verify(row)
        case "simulation":
            text = (
                f"{row['runs']:,} seeded lives of a host: {row['histories']:,} histories checked, "
                f"{row.get('crashes', 0):,} crashes, {row.get('committed', 0):,} commits, "
                f"{row.get('rolled_back', 0):,} rollbacks, {row.get('rejected', 0):,} rejections"
            )
            return text, row["broken"]
        case "search":
            text = (
                f"every way that a transaction of {row['modules']} modules with at most "
                f"{row['faults_max']} faults can go: {row['states']:,} states, {row['runs']:,} "
                f"runs, {row['crashes']:,} crashes"
            )
            return text, 0
        case "soak":
            return _soak(row)
        case "faults" if row.get("part") == "all":
            text = (
                f"with seed {row['seed']}: {row['trials']:,} trials with a fault of the matrix or "
                f"the disk, {row['crashes']:,} crashes, {row['schedules']:,} simulated schedules, "
                f"{row['histories']:,} histories checked"
            )
            return text, row["failed"]
    return None


def _verify(row: Row) -> tuple[str, int]:
    text = (
        f"{row['bad']} bad edits, {row['caught_as_named']} caught in the named phase; "
        f"{row['good']} good ones, {row['taken']} taken; {row['calls_answered']:,} calls "
        f"meanwhile, {row['calls_failed']} failed, {row['lost']} lost"
    )
    missed = row["bad"] - row["caught_as_named"] + row["good"] - row["taken"]
    return text, missed + row["calls_failed"] + row["lost"]


def _soak(row: Row) -> tuple[str, int]:
    outcomes = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in row["outcomes"].items()
    )
    growth = row["growth_of_last_quarter_over_second"]["resident"]
    same = ", ".join(
        f"{name} {'constant' if len(row[name]) == 1 else 'GREW'}"
        for name in ("descriptors", "threads", "tasks")
    )
    text = (
        f"{row['reloads']:,} reloads under load: {outcomes}; {row['answers']:,} answers; memory "
        f"{growth:+.1%}, {same}"
    )
    return text, sum(row["wrong"].values()) + (not row["good"])
