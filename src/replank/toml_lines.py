"""Where in a TOML file a key stands, and which do not belong: for errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from replank.errors import ConfigError

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


def refuse_unknown(
    raw: dict[str, Any],
    kind: type[msgspec.Struct],
    prefix: str,
    file: Path,
    lines: Mapping[str, int],
) -> None:
    """Refuse a key that does not belong, and say which was probably meant.

    Args:
        raw: The table as read.
        kind: The Struct of what belongs.
        prefix: Dotted name of the table, with a dot at its end; empty for the whole file.
        file: The file.
        lines: Where its keys stand.

    Raises:
        ConfigError: A key is not one of the kind's.
    """
    known = kind.__struct_fields__
    for key in raw:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known, n=1)
        raise ConfigError(
            f"unknown key {prefix}{key} in {file.name}",
            found=key,
            expected=f"one of {', '.join(known)}",
            do=f"did you mean {prefix}{near[0]}?" if near else "remove it",
            location=location_of(file, lines, prefix + key),
        )


def value_at(raw: Any, key: str) -> Any:
    """Return the value at a dotted key, or the innermost table that is there."""
    for part in key.split("."):
        if not isinstance(raw, dict) or part not in raw:
            return raw
        raw = raw[part]
    return raw


def widen_short_modules(raw: dict[str, Any]) -> None:
    """Turn `ledger = "ledger.py"` into `ledger = { source = "ledger.py" }`."""
    modules = raw.get("modules")
    if isinstance(modules, dict):
        for name, value in modules.items():
            if isinstance(value, str):
                modules[name] = {"source": value}


__all__ = ["key_lines", "location_of", "refuse_unknown", "value_at", "widen_short_modules"]
