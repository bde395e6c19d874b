"""What is known of a module before any host is asked: its source, and the shapes it had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from replank.config import CONFIG_FILE, Config, load_config
from replank.control.locate import find_data_dir
from replank.errors import UsageError, did_you_mean
from replank.journal.journal import JOURNAL_FILE
from replank.journal.reading import Recorded, read_modules, read_recorded
from replank.migration.frozen import read_frozen
from replank.shapes import Schema


@dataclass(frozen=True, slots=True)
class Known:
    """A module as the command line finds it."""

    name: str
    source: Path
    data_dir: Path
    recorded: Recorded
    frozen: dict[int, Schema]

    @property
    def committed(self) -> Schema | None:
        """The schema that serves, or would after a start."""
        found = self.recorded.committed
        return None if found is None else Schema.from_dict(found.schema_dict)

    @property
    def base(self) -> Schema | None:
        """The shape that the next step leads from: the committed or frozen one that is newest."""
        committed = self.committed
        newest = self.frozen[max(self.frozen)] if self.frozen else None
        if committed is None or newest is None:
            return committed or newest
        return committed if committed.version >= newest.version else newest

    def schemas(self) -> tuple[Schema, ...]:
        """Return every shape that the state is known to have had, each once, newest first."""
        found = [Schema.from_dict(plain) for plain in self.recorded.schemas]
        found += [self.frozen[number] for number in sorted(self.frozen, reverse=True)]
        if self.committed is not None:
            found.insert(0, self.committed)
        return tuple({(one.version, one.fingerprint): one for one in found}.values())


def find_module(
    module: str, source: Path | None, data_dir: Path | None, config: Path | None
) -> Known:
    """Find a module by its name, or by its file.

    Args:
        module: Name in the configuration or the data directory; or a file or package folder.
        source: Source to read instead.
        data_dir: As named on the command line.
        config: As named on the command line.

    Raises:
        UsageError: There is no such module, or no such file.
        JournalError: The data directory's journal is not sound.
    """
    found = _config(config)
    configured = {name: Path(one.source) for name, one in found.modules.items()}
    folder = find_data_dir(data_dir, config)
    path = Path(module)
    if module not in configured and (path.suffix == ".py" or path.is_dir()):
        name = next(
            (n for n, one in configured.items() if one.absolute() == path.absolute()), path.stem
        )
        source = source or path
    else:
        name = module
    recorded = read_recorded(folder / JOURNAL_FILE, name)
    if source is None:
        source = configured.get(name)
    if source is None and recorded.committed is not None:
        source = Path(recorded.committed.source)
    if source is None:
        names = sorted({*configured, *read_modules(folder / JOURNAL_FILE)})
        raise UsageError(
            f"there is no module {module!r}",
            found=module,
            expected=f"{', '.join(names)}; or a file" if names else "a file, such as ledger.py",
            do=did_you_mean(module, names) or "name its file, or the host's --config or --data-dir",
        )
    if not source.exists():
        raise UsageError(f"there is no file {source}", module=name, do="check the path")
    return Known(name, source.absolute(), folder, recorded, read_frozen(source.absolute()))


def _config(config: Path | None) -> Config:
    if config is not None:
        return load_config(config)
    return load_config(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else Config()


__all__ = ["Known", "find_module"]
