"""Where in a TOML file a key stands, for errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_TABLE_LINE: Final = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]")
_KEY_LINE: Final = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[\w-]+)*)\s*=""")


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each key, found by eye: tomllib does not keep positions.

    Args:
        text: A TOML file that tomllib has accepted.
    """
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE_LINE.match(line):
            table = _plain_key(header[1])
            lines.setdefault(table, number)
        elif key := _KEY_LINE.match(line):
            lines.setdefault(f"{table}.{_plain_key(key[1])}".lstrip("."), number)
    return lines


def _plain_key(key: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in key.split("."))


def location_of(file: Path, lines: Mapping[str, int], key: str) -> str:
    """Return `file:line` of a key, or of the nearest table or key that holds it.

    Args:
        file: The file.
        lines: Its keys' lines.
        key: A dotted key.
    """
    while key:
        if key in lines:
            return f"{file}:{lines[key]}"
        key = key.rpartition(".")[0]
    return str(file)


def value_at(raw: Any, key: str) -> Any:
    """Return what stands at a dotted key, or the innermost thing that holds it.

    Args:
        raw: What was read from TOML.
        key: A dotted key.
    """
    for part in key.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return raw
        raw = raw[part]
    return raw


__all__ = ["key_lines", "location_of", "value_at"]
