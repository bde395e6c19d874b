"""Frozen schemas: the shapes that steps lead to, kept beside the source, one file a module.

The journal knows what was committed in one data directory. Who writes a migration elsewhere, or
checks one in CI, has no such directory: `ledger.schemas.json` beside `ledger.py` remembers the
shape of each schema number, and belongs into version control like the source.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from replank.errors import SchemaError, StorageError
from replank.shapes import Schema

SUFFIX = ".schemas.json"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    module: str
    schemas: dict[int, dict[str, Any]]


def frozen_path(source: Path) -> Path:
    """Return where the frozen schemas of a source lie.

    Args:
        source: The module's file or package folder.
    """
    return source.with_name(source.name.removesuffix(".py") + SUFFIX)


def read_frozen(source: Path) -> dict[int, Schema]:
    """Return the frozen schemas of a source, by number; none without a file.

    Args:
        source: The module's file or package folder.

    Raises:
        SchemaError: The file is no file of frozen schemas.
    """
    path = frozen_path(source)
    if not path.is_file():
        return {}
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise SchemaError(
            f"{path.name} cannot be read as frozen schemas",
            found=str(error),
            expected="what `replank migrations new --write` wrote",
            do="put it back from version control, or remove it",
            location=str(path),
        ) from error
    return {number: Schema.from_dict(plain) for number, plain in file.schemas.items()}


def freeze_schemas(source: Path, module: str, *schemas: Schema) -> Path:
    """Add schemas to the file beside a source; those of other numbers stay.

    Args:
        source: The module's file or package folder.
        module: The module's name.
        schemas: What to remember, under their numbers.

    Returns:
        The file.

    Raises:
        SchemaError: The file that is there cannot be read.
        StorageError: It cannot be written.
    """
    path = frozen_path(source)
    known = read_frozen(source) | {schema.version: schema for schema in schemas}
    plain = {number: known[number].to_dict() for number in sorted(known)}
    text = msgspec.json.format(msgspec.json.encode(_File(module, plain)), indent=1) + b"\n"
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fresh.write_bytes(text)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StorageError(
            f"{path.name} cannot be written", found=str(error), do="check the folder's mode"
        ) from error
    return path


__all__ = ["freeze_schemas", "frozen_path", "read_frozen"]
