"""Settings from the environment: `REPLANK_HTTP_PORT=0` stands above `[http] port` of the file.

A variable is called `REPLANK_` + section + `_` + key, all in capitals; `REPLANK_DATA_DIR` and the
like for keys of no section, `REPLANK_MODULES_LEDGER_SOURCE` for those of the module `ledger`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from replank.config_words import in_words
from replank.errors import ConfigError

PREFIX: Final = "REPLANK_"
_NEAR: Final = 0.85

S = TypeVar("S", bound=msgspec.Struct)


class _Place(NamedTuple):
    path: tuple[str, ...]
    kind: Any


def overridden(config: S, environment: Mapping[str, str]) -> tuple[S, dict[str, str]]:
    """Return a configuration with what the environment says, and which variable said what.

    Args:
        config: What the file says.
        environment: Such as `os.environ`.

    Returns:
        The configuration; and by dotted key the variable that it comes from.

    Raises:
        ConfigError: A variable holds something else than its key may, or names no key; says which.
    """
    given = {name: text for name, text in environment.items() if name.startswith(PREFIX)}
    if not given:
        return config, {}
    places = dict(_places(config))
    said: dict[str, str] = {}
    for name, text in sorted(given.items()):
        place = places.get(name)
        if place is None:
            _refuse_misspelt(name, places, config)
            continue
        config = _replaced(config, place.path, _value(name, text, place.kind))
        said[".".join(place.path)] = name
    return config, said


def _places(config: msgspec.Struct, path: tuple[str, ...] = ()) -> Iterator[tuple[str, _Place]]:
    """Yield every variable that has a meaning, with the place of its key."""
    for field in msgspec.structs.fields(type(config)):
        here = (*path, field.name)
        value = getattr(config, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _places(value, here)
        elif isinstance(value, dict):
            for name, one in value.items():
                yield from _places(one, (*here, name))
        else:
            yield PREFIX + "_".join(here).upper(), _Place(here, field.type)


def _value(name: str, text: str, kind: Any) -> Any:
    """Read a text as the type of its key."""
    given: Any = text
    if text.lstrip().startswith("["):
        try:
            given = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise _wrong(name, text, f"a list as in TOML: {error}") from None
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError:
        try:
            # One text where several may stand.
            return msgspec.convert([given], kind, strict=False)
        except msgspec.ValidationError:
            expected = in_words(msgspec.inspect.type_info(kind), name.lower())
            raise _wrong(name, text, expected) from None


def _wrong(name: str, text: str, expected: str) -> ConfigError:
    return ConfigError(
        f"the environment variable {name} has a wrong value",
        found=repr(text),
        expected=expected,
        do=f"correct it, or take it away: unset {name}",
    )


def _refuse_misspelt(name: str, places: Mapping[str, Any], config: msgspec.Struct) -> None:
    """Refuse what means a key that there is not; other programs' variables are let be."""
    sections = [
        field.name
        for field in msgspec.structs.fields(type(config))
        if isinstance(getattr(config, field.name), msgspec.Struct | dict)
    ]
    of_section = any(name.startswith(f"{PREFIX}{one}_".upper()) for one in sections)
    near = difflib.get_close_matches(name, places, n=1, cutoff=0.6 if of_section else _NEAR)
    if of_section or near:
        raise ConfigError(
            f"the environment variable {name} names no setting",
            found=name,
            expected="REPLANK_SECTION_KEY; keys are in docs/reference/config.md",
            do=f"did you mean {near[0]}?" if near else f"unset {name}",
        )


def _replaced(config: S, path: tuple[str, ...], value: Any) -> S:
    first, *rest = path
    if not rest:
        return msgspec.structs.replace(config, **{first: value})
    inner = getattr(config, first)
    if isinstance(inner, dict):
        name, *more = rest
        changed: Any = {**inner, name: _replaced(inner[name], tuple(more), value)}
    else:
        changed = _replaced(inner, tuple(rest), value)
    return msgspec.structs.replace(config, **{first: changed})


__all__ = ["PREFIX", "overridden"]
