"""What stands on the pages of what was measured: one function a place, from the rows alone.

Nothing here measures, and nothing here knows a number: a result that embarrasses us gets on the
page by itself, and an aim that was missed says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench import sections_states as states
from bench.lines import Row
from bench.markdown import aim, came_about, cell, grid, slashed
from bench.peers.columns import better, table
from bench.sections_proofs import proofs
from replank import Phase

CALL_AIM = 3.0
PAUSE_AIM_MS = 2.0
LONGEST_PAUSE_AIM_MS = 20.0
IN_ALL_AIM_MS = 100.0
WATCH_AIM_MS = 150.0
SIDE_BY_SIDE_AIM = 2.0
PAINT_AIM_MS = 1_000.0

Write = Callable[[list[Row]], str]


@dataclass(frozen=True)
class Section:
    """One place on a page.

    Args:
        benches: The cases whose rows it is written from.
        write: Returns what stands there; gets at least one row.
    """

    benches: tuple[str, ...]
    write: Write


def reload(rows: list[Row]) -> str:
    head = (
        *("Python", "pause median / 95 % / longest", "a flush of the disk, median"),
        "in all, median / longest",
        *("longest wait without / with reloads", "committed", "failed calls"),
    )
    cells = (
        (
            row["python"],
            slashed(*(row["pause"][key] for key in ("median_ms", "p95_ms", "max_ms")), unit="ms"),
            slashed(row["flush"]["median_ms"], unit="ms"),
            slashed(row["total"]["median_ms"], row["total"]["max_ms"], unit="ms"),
            slashed(
                row["wait_of_a_call_without_reload"]["max_ms"],
                row["wait_of_a_call_during_reloads"]["max_ms"],
                unit="ms",
            ),
            f"{row['committed']} of {row['reloads']}",
            row["failed_calls"],
        )
        for row in rows
    )
    asked = (
        ("the median pause below", PAUSE_AIM_MS, "pause", "median_ms"),
        ("the longest pause below", LONGEST_PAUSE_AIM_MS, "pause", "max_ms"),
        ("the median of a whole reload below", IN_ALL_AIM_MS, "total", "median_ms"),
    )
    aims = [
        aim(f"{text} {most:g} ms on each Python", reached=all(row[of][key] < most for row in rows))
        for text, most, of, key in asked
    ]
    return "\n\n".join([came_about(rows), grid(head, cells), "\n".join(aims)])


def phases(rows: list[Row]) -> str:
    parts = (("serving", "phases_serving_median_ms"), ("paused", "phases_paused_median_ms"))
    head = ("Python", "ms, median", *(phase.capitalize() for phase in Phase))
    cells = (
        (row["python"], part, *(row[key].get(phase.value) for phase in Phase))
        for row in rows
        for part, key in parts
    )
    return grid(head, cells)


def transactions(rows: list[Row]) -> str:
    head = ("modules", *("side by side", "times one alone", "its longest pause"))
    head += ("as one transaction", "times one alone", "its longest pause")
    keys = [
        f"{way}_{what}"
        for way in ("side_by_side", "in_one")
        for what in ("ms", "to_alone", "pause_max_ms")
    ]
    cells = ((row["modules"], *(row[key] for key in keys)) for row in rows)
    one = rows[0]
    waits = slashed(one["longest_wait_quiet_ms"], one["longest_wait_ms"], unit="ms")
    aims = [
        aim(
            f"eight side by side within {SIDE_BY_SIDE_AIM:.0f} times one alone",
            reached=row["side_by_side_to_alone"] <= SIDE_BY_SIDE_AIM,
        )
        for row in rows
        if row["modules"] == 8
    ]
    alone = slashed(one["alone_ms"], unit="ms")
    text = f"One module alone took {alone} (median). The longest wait of a caller without / with "
    return "\n\n".join(
        [
            came_about(rows),
            f"{text}reloads was {waits}.",
            grid(head, cells) + "\n\nTimes in ms, medians.",
            *aims,
        ]
    )


def watch(rows: list[Row]) -> str:
    head = ("Python", "saves", "median", "95 %", "longest")
    cells = ((r["python"], r["saves"], r["median_ms"], r["p95_ms"], r["max_ms"]) for r in rows)
    worst = max(row["median_ms"] for row in rows)
    text = f"a median below {WATCH_AIM_MS:.0f} ms"
    return "\n\n".join(
        [
            came_about(rows),
            grid(head, cells) + "\n\nTimes in ms.",
            aim(text, reached=worst < WATCH_AIM_MS),
        ]
    )


METHODS = {
    ("atomic", "calls no other module"): "computes and returns",
    ("suspending", "calls no other module"): "awaits something that does not wait, in a module "
    "that calls no other",
    ("suspending", "calls other modules"): "the same in a module that calls others",
    ("sleeping", "calls other modules"): "really waits (`sleep(0)`)",
    ("typical", "calls other modules"): "ten dict operations",
    ("plain", "calls no other module"): "no coroutine, beside a plain call",
}


def _by_python(rows: list[Row], keys: tuple[str, ...]) -> str:
    """Return one line a kind of method, one column a Python."""
    pythons = list(dict.fromkeys(row["python"] for row in rows))
    found = {(row["method"], row["lane"], row["python"]): row for row in rows}

    def shown(row: Row | None) -> str | None:
        return " / ".join(cell(row[key]) for key in keys) if row else None

    cells = (
        (name, *(shown(found.get((method, lane, python))) for python in pythons))
        for (method, lane), name in METHODS.items()
    )
    return grid(("method", *pythons), cells)


def call_cost(rows: list[Row]) -> str:
    calls = [row for row in rows if "entry_ratio" in row]
    over = [
        f"{name}: {max(found):.1f}"
        for key, name in METHODS.items()
        if key[0] != "plain"  # a bare call of it is no await
        and (found := [r["entry_ratio"] for r in calls if (r["method"], r["lane"]) == key])
        and max(found) > CALL_AIM
    ]
    text = "Bare call in ns / ratio of the call through an open gate to it."
    return "\n\n".join(
        [
            came_about(rows),
            _by_python(calls, ("bare_ns", "entry_ratio")) + f"\n\n{text}",
            aim(f"at most {CALL_AIM:.0f} times a bare `await`", reached=not over)
            + "".join(f"\n  - {one}" for one in over),
        ]
    )


def observed(rows: list[Row]) -> str:
    calls = [row for row in rows if "observed_ratio" in row]
    return _by_python(calls, ("probation_on_off", "replay_on_off"))


def isolation(rows: list[Row]) -> str:
    calls = [row for row in rows if "isolation" in row]
    pythons = list(dict.fromkeys(row["python"] for row in calls))
    kinds = dict.fromkeys(row["isolation"] for row in calls)
    found = {(row["isolation"], row["python"]): row for row in calls}

    def shown(row: Row | None) -> str | None:
        if row is None or "call_ns" not in row:
            return row and f"not measured: {row.get('skipped', 'why is not said')}"
        return f"{row['call_ns'] / 1e3:,.2f} µs, {row['ratio_to_bare']:,.2f} times"

    cells = ((kind, *(shown(found.get((kind, one))) for one in pythons)) for kind in kinds)
    return grid(("called", *pythons), cells)


def probation(rows: list[Row]) -> str:
    head = ("planted", "sent back", "commit to old version serving, median / longest")
    head += ("calls hurt, median", "writes lost")
    planted = [row for row in rows if "rollback_s" in row]
    cells = (
        (
            row["planted"],
            f"{row['sent_back']} of {row['trials']}",
            slashed(row["rollback_s"]["median"], row["rollback_s"]["max"], unit="s"),
            f"{row['held_mb']} MB held" if "held_mb" in row else row["hurt_median"],
            row["lost"],
        )
        for row in planted
    )
    parts = [came_about(rows), grid(head, cells)]
    parts += [
        f"An unchanged version under noise was sent back in {row['sent_back']} of {row['trials']} "
        f"trials; {row['calls_looked_at']:,} calls were looked at."
        for row in rows
        if "calls_looked_at" in row
    ]
    return "\n\n".join(parts)


def broken(rows: list[Row]) -> str:
    head = ("candidate", "ended", "next edit committed", "calls", "over 5 ms", "longest, ms")
    tried = [row for row in rows if "candidate" in row]
    cells = (
        (
            row["candidate"],
            ", ".join(f"{count} {outcome}" for outcome, count in row["outcomes"].items()),
            f"{row['next_edit_committed']} of {row['times']}",
            row["calls"],
            row["over_5_ms"],
            row["longest_ms"],
        )
        for row in tried
    )
    parts = [came_about(rows), grid(head, cells)]
    for row in rows:
        if "without_a_reload" in row:
            quiet = row["without_a_reload"]
            exact = "exact" if row["sum_is_exact"] else "**wrong**"
            parts.append(
                f"Without a reload, in the same run: {quiet['over_5_ms']:,} of {quiet['calls']:,} "
                f"calls over 5 ms, the longest {quiet['longest_ms']:.1f} ms. "
                f"{row['failed_calls']} calls failed in all; the module's sum is {exact}."
            )
    return "\n\n".join(parts)


def instructions(rows: list[Row]) -> str:
    return _by_python(rows, ("bare_steps", "gate_steps"))


def startup(rows: list[Row]) -> str:
    head = ("from the start of a process", "median, ms", "fastest, ms", "memory, MB")
    starts = [row for row in rows if "median_ms" in row]
    cells = ((r["case"], r["median_ms"], r["fastest_ms"], r["memory_mb"]) for r in starts)
    parts = [came_about(rows), grid(head, cells)]
    parts += [
        f"An installation is {row['packages']} packages with {row['total_mb']:.0f} MB, "
        f"{row['own_mb']:.1f} MB of them Replank. The largest, in MB: {', '.join(row['largest'])}."
        for row in rows
        if "packages" in row
    ]
    return "\n\n".join(parts)


def messages(rows: list[Row]) -> str:
    head = ("way", "senders", "accepted a second", "handled a second", "in one flush")
    sent = [row for row in rows if "senders" in row]
    cells = (
        (
            row["kind"],
            row["senders"],
            _thousands(row["accepted_per_s"]),
            _thousands(row["handled_per_s"]),
            row.get("messages_per_transaction"),
        )
        for row in sent
    )
    parts = [came_about(rows), grid(head, cells) + "\n\nSlowest / median / fastest round."]
    flushes = [row["fdatasync_ms"] for row in rows if "fdatasync_ms" in row]
    if flushes:
        shown = " and ".join(slashed(*one, unit="ms") for one in flushes)
        parts.append(f"One flush of this disk took {shown} before and after.")
    parts += [
        f"After a start with {row['messages']:,} kept messages the first was handled after "
        f"{row['first_handled_s'] * 1e3:.0f} ms, and {row['handled_per_s']:,.0f} a second."
        for row in rows
        if row.get("kind") == "backlog"
    ]
    return "\n\n".join(parts)


def _thousands(values: list[int]) -> str:
    return " / ".join(f"{one:,}" for one in values)


def peers(rows: list[Row]) -> str:
    return f"{came_about(rows)}\n\n{table(rows)}"


def dashboard(rows: list[Row]) -> str:
    parts = [came_about(rows)]
    for row in rows:
        if "paints_ms" in row:
            shown = ", ".join(f"{one:.0f}" for one in sorted(row["paints_ms"]))
            parts += [
                f"First paint on loopback, {len(row['paints_ms'])} new tabs: {shown} ms.",
                aim("first paint under a second", reached=max(row["paints_ms"]) < PAINT_AIM_MS),
            ]
    head = ("reloads on the open page", "JavaScript heap, MiB", "nodes of the page")
    held = [row for row in rows if "heap_mib" in row]
    return "\n\n".join(
        [*parts, grid(head, ((r["reloads"], r["heap_mib"], r["nodes"]) for r in held))]
    )


SECTIONS = {
    "reload": Section(("reload",), reload),
    "phases": Section(("reload",), phases),
    "transactions": Section(("transactions",), transactions),
    "watch": Section(("watch",), watch),
    "call-cost": Section(("call_cost",), call_cost),
    "observed": Section(("call_cost",), observed),
    "isolation": Section(("call_cost",), isolation),
    "probation": Section(("probation",), probation),
    "broken": Section(("broken",), broken),
    "instructions": Section(("instructions",), instructions),
    "tables": Section(("state",), states.tables),
    "pause-sizes": Section(("pause",), states.pause_by_size),
    "pause-writes": Section(("pause",), states.pause_by_writes),
    "memory": Section(("pause",), states.memory),
    "disk": Section(("snapshots",), states.disk),
    "startup": Section(("startup",), startup),
    "messages": Section(("messages",), messages),
    "peers": Section(("peers",), peers),
    "peers-better": Section(("peers",), better),
    "dashboard": Section(("dashboard",), dashboard),
    "proofs": Section(("verify", "faults", "simulation", "search", "soak"), proofs),
}
"""By the name that stands on the page."""
