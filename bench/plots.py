"""Draw what was measured: one picture a subject, SVG and PNG; needs matplotlib (extra `bench`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.lines import Row, flat

Point = tuple[str, float, float]


@dataclass(frozen=True)
class Picture:
    """A subject: which rows show it, and where in them.

    Args:
        name: Of the file.
        x: The number on the axis below, as `lines.flat` names it.
        ys: The numbers drawn above it, each a line.
        shows: Which rows.
    """

    name: str
    x: str
    ys: tuple[str, ...]
    shows: Callable[[Row], bool]
    x_label: str
    y_label: str = "ms"


_WAITS = ("longest_wait_quiet_ms", "longest_wait_ms")
PICTURES = (
    Picture(
        "pause-by-size",
        "records",
        ("pause_ms", "rollback_pause_ms", *_WAITS),
        lambda row: row.get("case") == "size",
        "records in the table",
    ),
    Picture(
        "pause-by-writes",
        "writes_per_s",
        ("pause_ms", "rollback_pause_ms", *_WAITS),
        lambda row: row.get("case") == "writes",
        "writes a second",
    ),
    Picture(
        "pause-beside-copying",
        "records",
        ("pause_ms",),
        lambda row: row.get("bench") == "state" and "records" in row,
        "records in the table",
    ),
    Picture(
        "transactions",
        "modules",
        ("in_one_ms", "side_by_side_ms"),
        lambda row: row.get("bench") == "transactions",
        "modules",
    ),
)


def points(picture: Picture, rows: Iterable[Row]) -> list[Point]:
    """Return what a picture shows: name of the line, x, y; sorted.

    Args:
        picture: The subject.
        rows: Everything that was printed, with the key `bench`.
    """
    found = []
    for row in filter(picture.shows, rows):
        leaves = dict(flat(row))
        # one number told of several ways of doing it: a line for each way
        way = str(row.get("case", "")) if len(picture.ys) == 1 else ""
        found += [
            (way or name, float(leaves[picture.x]), float(leaves[name]))
            for name in picture.ys
            if isinstance(leaves.get(name), int | float) and picture.x in leaves
        ]
    return sorted(found)


def draw(rows: list[Row], folder: Path) -> list[Path]:
    """Draw all subjects that the rows tell something of; returns the files.

    Args:
        rows: Everything that was printed.
        folder: Made when it is missing.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # no screen is needed
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    drawn = []
    for picture in PICTURES:
        found = points(picture, rows)
        if not found:
            continue
        figure = Figure(figsize=(7, 4))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for name in dict.fromkeys(line for line, _, _ in found):
            line = [(x, y) for one, x, y in found if one == name]
            words = name.removesuffix("_ms").replace("_", " ")
            axes.plot(*zip(*line, strict=True), marker="o", label=words)
        axes.set(xscale="log", yscale="log", xlabel=picture.x_label, ylabel=picture.y_label)
        axes.set_xticks(sorted({x for _, x, _ in found}), minor=False)
        axes.xaxis.set_minor_locator(NullLocator())
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:,g}"))
        axes.grid(alpha=0.3)
        axes.legend()
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in (".svg", ".png"):
            path = (folder / picture.name).with_suffix(suffix)
            figure.savefig(path, bbox_inches="tight")
            drawn.append(path)
    return drawn
