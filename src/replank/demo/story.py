"""What the demo plays: four reloads, how each one must end, and what the whole amounts to."""

from __future__ import annotations

import importlib.resources
import shutil
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import msgspec

from replank.demo.accounting import Tally, Verdict
from replank.report import Outcome, ReloadReport

CONFIG = """\
# The shop of `replank demo`.
data_dir = ".replank"

[modules]
ledger = "ledger.py"
api = "api.py"

[http]
port = {port}
"""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One reload of the demo."""

    title: str
    story: str
    """Why somebody would do this, for a newcomer."""
    files: dict[str, str]
    """Name of each module that changes, and the version folder that it comes from."""
    planned: Outcome


ACTS = (
    Act(
        title="ledger 1 → 2",
        story="the state changes shape: euros become cents, accounts get a tier",
        files={"ledger": "v2"},
        planned=Outcome.COMMITTED,
    ),
    Act(
        title="ledger 2 → 3",
        story="its check fails once it has started: put back while calls wait",
        files={"ledger": "v3"},
        planned=Outcome.ROLLED_BACK,
    ),
    Act(
        title="ledger 2 → 4",
        story="does not even import: found out before any call waits",
        files={"ledger": "v4"},
        planned=Outcome.REJECTED,
    ),
    Act(
        title="ledger 2 → 5, api 1 → 5",
        story="a call between the two changes: both or none",
        files={"ledger": "v5", "api": "v5"},
        planned=Outcome.COMMITTED,
    ),
)


def shop() -> Traversable:
    """Return the folder of the shop's versions, inside the installed package."""
    return importlib.resources.files("replank.demo") / "shop"


def set_stage(folder: Path, *, port: int) -> None:
    """Write the shop's first versions and its configuration.

    Args:
        folder: Where to.
        port: TCP port of the host; 0 takes any free one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "replank.toml").write_text(CONFIG.format(port=port), encoding="utf-8")
    for name in ("ledger", "api"):
        change(folder, name, "v1")


def change(folder: Path, name: str, version: str) -> None:
    """Do what an author does: save another version of a module's file.

    Args:
        folder: The shop's folder.
        name: Name of the module.
        version: Folder of the version, such as "v2".
    """
    source = shop() / version / f"{name}.py"
    with importlib.resources.as_file(source) as file:
        shutil.copyfile(file, folder / f"{name}.py")


def lay(folder: Path, name: str, version: str) -> Path:
    """Lay one version of a module into a folder of its own.

    Returns:
        Its source file.
    """
    place = folder / version
    place.mkdir(parents=True, exist_ok=True)
    change(place, name, version)
    return place / f"{name}.py"


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One act and how it ended."""

    act: Act
    report: ReloadReport
    shape_before: str
    shape_after: str

    @property
    def pause_ms(self) -> float:
        """How long calls could not enter, in milliseconds.

        The longest wait of a call at the gate can be shorter: a call may arrive late.
        """
        return max(self.report.pause_s, self.report.closed_s) * 1000

    @property
    def as_planned(self) -> bool:
        """Whether the reload ended as the story says."""
        return self.report.outcome is self.act.planned


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole demo amounts to."""

    verdict: Verdict
    played: tuple[Played, ...]
    folder: str | None = None
    """Where the shop and its journal were kept, if they were."""

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and every reload ended as planned."""
        return (
            self.verdict.clean
            and len(self.played) == len(ACTS)
            and all(one.as_planned for one in self.played)
        )

    @property
    def pause_ms_max(self) -> float:
        """The longest pause of all reloads, in milliseconds."""
        return max((one.pause_ms for one in self.played), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return what `replank demo --json` prints."""
        verdict = self.verdict
        return {
            "ok": self.ok,
            **totals(verdict.calls, verdict.messages),
            "stale_answers": verdict.stale_answers,
            "mixed_answers": verdict.mixed_answers,
            "state_ok": verdict.state_ok,
            "pause_ms_max": round(self.pause_ms_max, 3),
            "longest_wait_ms_with_reload": round(verdict.waits.with_reload_ms, 3),
            "longest_wait_ms_without_reload": round(verdict.waits.without_reload_ms, 3),
            "longest_wait_ms_each_reload": [round(ms, 3) for ms in verdict.waits.each_reload_ms],
            "seconds": verdict.seconds,
            "traffic": {
                "calls": msgspec.to_builtins(verdict.calls),
                "messages": msgspec.to_builtins(verdict.messages),
            },
            "state": {
                "expected_cents": verdict.expected_cents,
                "found_cents": verdict.found_cents,
                "entries": verdict.serials,
                "wrong_accounts": list(verdict.wrong_accounts),
                "versions": list(verdict.versions),
            },
            "planned": [one.act.planned for one in self.played],
            "reloads": [one.report.to_dict() for one in self.played],
            "errors": list(verdict.errors),
            "folder": self.folder,
        }


def totals(calls: Tally, messages: Tally) -> dict[str, int]:
    """Add up calls and messages: to an accountant both are requests."""
    return {
        "calls": calls.sent + messages.sent,
        "answered": calls.answered + messages.answered,
        "lost": calls.lost + messages.lost,
        "duplicated": calls.duplicated + messages.duplicated,
        "reordered": calls.reordered + messages.reordered,
        "failed": calls.failed + messages.failed,
    }


__all__ = ["ACTS", "Act", "DemoResult", "Played", "change", "lay", "set_stage", "shop", "totals"]
