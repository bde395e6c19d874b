"""Draw docs/images/phases.svg from the table in the code: `python -m tests.docs.phase_picture`."""

from __future__ import annotations

from replank.coordinator.phases import PAUSED, REHEARSED, SPECS, Where
from replank.report import Outcome, Phase
from tests.docs.pages import ROOT

PICTURE = ROOT / "docs" / "images" / "phases.svg"
PAGES = (ROOT / "README.md", ROOT / "docs" / "explanation" / "phases.md")

BOX, GAP, HEIGHT, LEFT, LANE = 84, 6, 38, 12, 112
WIDTH = LEFT + len(PAUSED) * (BOX + GAP) - GAP + LEFT
STYLE = """
.ink { fill: #16211f } .dim { fill: #586460 } .line { stroke: #586460; fill: none }
.serving { fill: #d9ecee; stroke: #0b6e7a } .waiting { fill: #fdecc8; stroke: #b97700 }
.after { fill: #dcefe2; stroke: #1b7340 } .point { stroke: #b3261e; stroke-width: 2 }
.red { fill: #b3261e } .box { fill: #16211f }
@media (prefers-color-scheme: dark) {
  .ink { fill: #e6ecea } .dim { fill: #9aa8a4 } .line { stroke: #9aa8a4 }
  .point { stroke: #ff8a80 } .red { fill: #ff8a80 }
}
text { font: 14px system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
.strong { font-weight: 650 } .small { font-size: 12.5px; font-weight: 400 }
"""
WORDS = {
    Outcome.REJECTED: "rejected: no call has waited, and the old version serves on",
    Outcome.ROLLED_BACK: "rolled back: undone in reverse, and the old version serves on",
}
SERVES: tuple[tuple[Phase, Where], ...] = (
    (Phase.PREPARE, "window"),
    *((phase, "window") for phase in REHEARSED),
)
WAITS: tuple[tuple[Phase, Where], ...] = tuple((phase, "pause") for phase in PAUSED)


def picture() -> str:
    """Return the drawing."""
    last = 2 * LANE + 30
    parts = [
        *lane(0, SERVES, "serving", "The old version serves", "all of it is rehearsed on a copy"),
        *lane(LANE, WAITS, "waiting", "Calls wait", "some milliseconds, for what was written last"),
        f'<path class="point" d="M{LEFT} {last - 14}H{WIDTH - LEFT}" stroke-dasharray="5 4"/>',
        text(WIDTH - LEFT, last - 21, "point of no return: the commit record", "red small", "end"),
        box(LEFT, last, WIDTH - 2 * LEFT, "after", "The new version serves, on probation"),
    ]
    title = ", ".join(f"{phase} in the {where}" for phase, where in SERVES + WAITS)
    body, height = "\n".join(parts), last + HEIGHT + LEFT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
        f' height="{height}" role="img" aria-label="The phases in their order: {title}">\n'
        "<!-- written by `python -m tests.docs.phase_picture` from coordinator/phases.py -->\n"
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def lane(
    y: int, steps: tuple[tuple[Phase, Where], ...], kind: str, title: str, note: str
) -> list[str]:
    """Return one row: its heading, its steps, and where their failures lead."""
    top = y + 30
    note = f'<tspan class="dim small" dx="10">{note}</tspan>'
    parts = [text(LEFT, top - 10, title + note, "ink strong")]
    for place, (phase, where) in enumerate(steps):
        x = LEFT + place * (BOX + GAP)
        parts.append(box(x, top, BOX, kind, phase.capitalize(), told(phase, where)))
    end, turn = LEFT + len(steps) * (BOX + GAP) - BOX // 2, top + HEIGHT + 13
    phase, where = steps[-1]
    return [
        *parts,
        f'<path class="line" d="M{end} {top + HEIGHT + 3}V{turn}H{LEFT + 12}v-3"/>',
        f'<path class="dim" d="M{LEFT + 8} {turn - 3}l4 -7l4 7z"/>',
        text(LEFT + 12, turn + 16, f"fails? {WORDS[SPECS[phase].failure(where)]}", "dim small"),
    ]


def told(phase: Phase, where: Where) -> str:
    """Return what a part does, for whoever points at it."""
    spec = SPECS[phase]
    return f"{spec.window if where == 'window' else spec.pause}; if it fails: {spec.undo}"


def box(x: int, y: int, width: int, kind: str, name: str, told: str = "") -> str:
    middle = x + width / 2
    return (
        f'<g><title>{told or name}</title><rect class="{kind}" x="{x}" y="{y}" width="{width}"'
        f' height="{HEIGHT}" rx="7"/><text class="box" x="{middle}" y="{y + 24}"'
        f' text-anchor="middle">{name}</text></g>'
    )


def text(x: int, y: int, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), "utf-8")
