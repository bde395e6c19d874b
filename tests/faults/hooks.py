"""Where the modules of the fault tests note that a generation was started or stopped."""

from __future__ import annotations

noted: list[tuple[str, str, int]] = []
"""("start" or "stop", module, id of the module's object), in order."""


def note(what: str, module: object) -> None:
    noted.append((what, type(module).__module__, id(module)))


def started_and_not_stopped() -> list[str]:
    """Return the private names of the generations whose `on_start` ran and whose `on_stop` did not."""
    alive: dict[int, str] = {}
    for what, name, key in noted:
        if what == "start":
            alive[key] = name
        else:
            alive.pop(key, None)
    return sorted(alive.values())
