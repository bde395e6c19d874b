"""What is typed after `replank call NAME METHOD`, and after `replank reload`, as values."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

from replank.errors import UsageError

_KEYWORD: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def parse_arguments(words: Sequence[str]) -> dict[str, Any] | list[Any]:
    """Return a call's arguments.

    Args:
        words: One JSON object or array; or `name=value` each; or plain values. A value is JSON
            where it can be read as JSON, else text: `cents=5`, `owner=ada`, `'owner="5"'`.

    Raises:
        UsageError: The words mix named and plain values, or are broken JSON.
    """
    if len(words) == 1 and words[0].lstrip()[:1] in ("{", "["):
        return _parse_json(words[0])
    pairs = [_KEYWORD.fullmatch(word) for word in words]
    named = [pair for pair in pairs if pair is not None]
    if not named:
        return [_value(word) for word in words]
    if len(named) < len(words):
        plain = next(word for word, pair in zip(words, pairs, strict=True) if pair is None)
        raise UsageError(
            "named and plain arguments do not mix",
            found=plain,
            expected="name=value each, plain values only, or one JSON object or array",
        )
    return {pair[1]: _value(pair[2]) for pair in named}


def _parse_json(text: str) -> dict[str, Any] | list[Any]:
    try:
        value: dict[str, Any] | list[Any] = json.loads(text)
    except ValueError as error:
        raise UsageError(
            "the arguments are no valid JSON",
            found=str(error),
            do="""quote them for the shell: '{"owner": "ada"}'""",
        ) from None
    return value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_targets(
    names: Sequence[str], sources: Sequence[Path]
) -> list[str] | dict[str, Path | None]:
    """Return what to reload: names, or names with sources.

    Args:
        names: `NAME` or `NAME=PATH` each.
        sources: Paths of `--source`, in the order of the names; none, or one for each.

    Raises:
        UsageError: A name is given twice, or sources and names do not pair.
    """
    pairs = [name.partition("=") for name in names]
    targets = {name: Path(path) if path else None for name, _, path in pairs}
    if len(targets) < len(names):
        raise UsageError("a module is named twice", found=" ".join(names), do="name each once")
    if sources:
        if len(sources) != len(names) or any(targets.values()):
            raise UsageError(
                "--source does not pair with the modules",
                found=f"{len(names)} modules, {len(sources)} sources",
                expected="one --source for each module, in their order",
                do="write NAME=PATH for each module instead",
            )
        targets = dict(zip(targets, sources, strict=True))
    for path in targets.values():
        if path is not None and not path.exists():
            raise UsageError(f"there is no file {path}", do="check the path")
    return targets if any(targets.values()) else list(targets)


def parse_digests(words: Sequence[str], targets: Collection[str]) -> dict[str, str]:
    """Return the digests that sources must have, by module.

    Args:
        words: `NAME=sha256:...` each, or one `sha256:...` alone for a single module.
        targets: The modules.

    Raises:
        UsageError: A digest without a name is given for several modules.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, digest = word.rpartition("=")
        if not name and len(targets) > 1:
            raise UsageError(
                "--expect does not say of which module",
                found=word,
                expected=" ".join(f"--expect {one}=sha256:..." for one in targets),
            )
        found[name or next(iter(targets))] = digest
    return found


__all__ = ["parse_arguments", "parse_digests", "parse_targets"]
