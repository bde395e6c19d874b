"""Every setting and every limit, with its unit, in one place.

`replank.toml` is read strictly: an unknown key, a wrong type or a value out of range is refused
with the file, the line, what was found and what was expected. Nothing here starts anything.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from replank.config_http import HttpConfig, TelemetryConfig
from replank.config_isolation import IsolationConfig, check_isolation
from replank.config_kinds import (
    MIB,
    BadRecordPolicy,
    ByteCount,
    ContractPolicy,
    Count,
    DrainPolicy,
    PersistPolicy,
    Seconds,
    Section,
    StateMode,
    TypeChecker,
    WhenBusy,
)
from replank.config_reload import ReloadConfig
from replank.config_words import expected_at
from replank.environment import overridden
from replank.errors import ConfigError, did_you_mean
from replank.settings import (
    ProbationConfig,
    ScheduleConfig,
    StorageConfig,
    TrustConfig,
    WatchConfig,
    check_hours,
    check_mode,
    check_schedule,
)
from replank.toml_lines import key_lines, location_of, value_at

CONFIG_FILE: Final = "replank.toml"
DATA_DIR: Final = ".replank"


class ModuleConfig(IsolationConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module: `[modules.NAME]`, or `NAME = "path"` under `[modules]`."""

    source: Annotated[str, msgspec.Meta(min_length=1)]
    """File or package folder; in a file relative to that file, absolute once loaded."""
    drain_policy: DrainPolicy = "abort"
    """What becomes of calls that outlive the drain deadline: they end the reload ("abort"), are
    ended themselves ("cancel"), or end on the old version, whose state is sealed ("detach")."""
    threads: bool = False
    """Whether `def` calls run in threads of the module's own, several at once, instead of on the
    event loop; its state is then copied in the pause, whatever its size."""
    max_threads: Count = 16
    """Threads that such calls get; one more waits for a thread."""
    max_waiting: Count = 10_000
    """Calls that may wait at the closed gate; one more is answered `Overloaded`."""
    max_messages: Count = 100_000
    """Messages that may be queued; one more is answered `Overloaded`."""
    drain_timeout_s: Seconds | None = None
    """Seconds; overrides `reload.drain_timeout_s` for this module."""
    mode: StateMode = "auto"
    """How the state travels in a reload: copied in the pause ("eager"), copied before it while the
    old version serves ("windowed"), or checked before it and migrated as it is used ("lazy", which
    needs no memory for a second state); "auto" chooses by what is measured on the real state."""
    on_bad_record: BadRecordPolicy = "abort"
    """What becomes of a record that does not migrate: the reload is rejected ("abort"), the record
    is set aside ("quarantine"), or the field at fault gets its default ("default")."""
    quarantine_max: Annotated[int, msgspec.Meta(ge=0)] = 100
    """Records that one reload may set aside; one more rejects it, naming the first ones."""
    contract: ContractPolicy = "users"
    """Which breaking changes are rejected: what another module uses, all ("strict"), or none."""
    tests: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Tests of the module, a file or folder for pytest: every candidate must pass them first."""
    type_check: TypeChecker | Literal["off"] | None = None
    """Overrides `reload.type_check` for this module; "off" for none."""
    replay: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Recent calls of `@query` methods kept to be asked again of each candidate; 0 for none."""
    replay_bytes: ByteCount = MIB
    """Bytes that the kept calls may take."""
    replay_reject: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """Share of replayed answers that may differ; more is rejected. Left out: only reported."""
    replay_expected: tuple[str, ...] = ()
    """Names of queries whose answers may always differ."""
    durable: bool = False
    """Whether a message is on the disk when it is accepted, and outlives a crash."""
    persist: PersistPolicy = "stop"
    """When the state goes to the disk: at a stop, also after each commit, also at intervals."""
    persist_interval_s: Seconds = 60.0
    """Seconds from one save to the next when `persist` is "interval"; calls wait milliseconds."""
    windows: tuple[str, ...] | None = None
    """Hours in which it may be reloaded; overrides `schedule.windows` for this module."""
    quiet_hours: tuple[str, ...] | None = None
    """Hours in which it may not; overrides `schedule.quiet_hours` for this module."""
    rate_limit: Count | None = None
    """Reloads within `schedule.rate_period_s`; overrides `schedule.rate_limit`."""

    def checker(self, common: ReloadConfig) -> TypeChecker | None:
        """Return the type checker that candidates must pass, or None.

        Args:
            common: What holds for all modules.
        """
        return None if self.type_check == "off" else self.type_check or common.type_check


class Config(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `replank.toml`."""

    data_dir: Annotated[str, msgspec.Meta(min_length=1)] = DATA_DIR
    """Folder of the journal, the stored versions and the snapshots."""
    stop_timeout_s: Seconds = 10.0
    """Seconds that calls in flight and queued messages get when the host stops."""
    modules: dict[str, ModuleConfig] = msgspec.field(default_factory=dict)
    reload: ReloadConfig = msgspec.field(default_factory=ReloadConfig)
    probation: ProbationConfig = msgspec.field(default_factory=ProbationConfig)
    trust: TrustConfig = msgspec.field(default_factory=TrustConfig)
    http: HttpConfig = msgspec.field(default_factory=HttpConfig)
    storage: StorageConfig = msgspec.field(default_factory=StorageConfig)
    telemetry: TelemetryConfig = msgspec.field(default_factory=TelemetryConfig)
    schedule: ScheduleConfig = msgspec.field(default_factory=ScheduleConfig)
    watch: WatchConfig = msgspec.field(default_factory=WatchConfig)

    def drain_timeout_s(self, module: str) -> float:
        """Return the drain deadline of a module, in seconds.

        Args:
            module: Its name; an unknown one gets the default.
        """
        own = self.modules[module].drain_timeout_s if module in self.modules else None
        return self.reload.drain_timeout_s if own is None else own


def load_config(
    path: str | os.PathLike[str] = CONFIG_FILE, environment: Mapping[str, str] | None = None
) -> Config:
    """Read a configuration file; paths in it are relative to it and come back absolute.

    Args:
        path: The TOML file.
        environment: What stands above it; the process's own environment by default.

    Raises:
        ConfigError: The file is missing, is no TOML, or holds something that does not belong; or
            a variable of the environment does.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {file}",
            do="name one, write one with `replank init`, or name module files: "
            "replank run ledger.py",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read",
            found=_reason(error),
            expected="a text file in UTF-8 that this user may read",
            do="correct it, or name another",
        ) from error
    return parse_config(text, file, os.environ if environment is None else environment)


def parse_config(text: str, file: Path, environment: Mapping[str, str] = {}) -> Config:
    """Read a configuration from its text.

    Args:
        text: TOML.
        file: Where the text comes from: named in errors, and the base of relative paths.
        environment: Variables that stand above it.

    Raises:
        ConfigError: The text is no TOML or holds something that does not belong.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = re.search(r"at line (\d+)", str(error))
        where = f"{file}:{match[1]}" if match else str(file)
        raise ConfigError(
            f"{file.name} is not valid TOML",
            found=str(error),
            do="correct that line; texts stand in quotes, each key once in its [section]",
            location=where,
        ) from None
    lines = key_lines(text)
    _widen_short_modules(raw)
    _refuse_unknown_keys(raw, file, lines)
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise _wrong_value(error, raw, file, lines) from None
    config, said = overridden(config, environment)
    check_modules(config, lambda key: said.get(key) or location_of(file, lines, key))
    return _with_absolute_paths(config, file.resolve().parent)


def check_modules(config: Config, location: Callable[[str], str | None]) -> None:
    """Refuse hours in which modules could never be reloaded, and modes that cannot be kept.

    Args:
        config: The whole configuration.
        location: Returns where a key was given.

    Raises:
        ConfigError: Says which, where and why.
    """
    common = config.schedule
    check_schedule(common, location)
    for name, own in config.modules.items():
        windows = common.windows if own.windows is None else own.windows
        quiet = common.quiet_hours if own.quiet_hours is None else own.quiet_hours
        check_hours(f"modules.{name}.", windows, quiet, location)
        check_mode(name, own.mode, location, threads=own.threads)
        others = {key: getattr(own, key) for key in ("threads", "mode", "on_bad_record")}
        check_isolation(name, others, location, isolated=own.isolated)


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _widen_short_modules(raw: dict[str, Any]) -> None:
    """Turn `ledger = "ledger.py"` into `ledger = { source = "ledger.py" }`."""
    modules = raw.get("modules")
    if isinstance(modules, dict):
        for name, value in modules.items():
            if isinstance(value, str):
                modules[name] = {"source": value}


_SECTIONS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "reload": ReloadConfig,
    "http": HttpConfig,
    "probation": ProbationConfig,
    "schedule": ScheduleConfig,
    "storage": StorageConfig,
    "telemetry": TelemetryConfig,
    "trust": TrustConfig,
    "watch": WatchConfig,
}


def _refuse_unknown_keys(raw: dict[str, Any], file: Path, lines: Mapping[str, int]) -> None:
    """Do what `forbid_unknown_fields` does, but say where, and what was probably meant."""
    _refuse_unknown(raw, Config, "", file, lines)
    for section, kind in _SECTIONS.items():
        if isinstance(raw.get(section), dict):
            _refuse_unknown(raw[section], kind, f"{section}.", file, lines)
    modules = raw.get("modules")
    if not isinstance(modules, dict):
        return
    for name, value in modules.items():
        if not name.isidentifier():
            raise ConfigError(
                f"{name!r} cannot be a module's name",
                expected="letters, digits and _, not starting with a digit",
                location=location_of(file, lines, f"modules.{name}"),
            )
        if isinstance(value, dict):
            _refuse_unknown(value, ModuleConfig, f"modules.{name}.", file, lines)


def _refuse_unknown(
    raw: dict[str, Any],
    kind: type[msgspec.Struct],
    prefix: str,
    file: Path,
    lines: Mapping[str, int],
) -> None:
    known = kind.__struct_fields__
    for key in raw:
        if key in known:
            continue
        raise ConfigError(
            f"unknown key {prefix}{key} in {file.name}",
            found=key,
            expected=f"one of {', '.join(known)}",
            do=_instead_of(key, known, prefix),
            location=location_of(file, lines, prefix + key),
        )


def _instead_of(key: str, known: Iterable[str], prefix: str) -> str:
    """Say what was probably meant: a key of like name here, or this one in another section."""
    if near := difflib.get_close_matches(key, list(known), n=1):
        return f"did you mean {prefix}{near[0]}?"
    kinds: dict[str, type[msgspec.Struct]] = {
        "": Config,
        **{f"{name}.": kind for name, kind in _SECTIONS.items()},
    }
    kinds["modules.NAME."] = ModuleConfig
    homes = [place + key for place, kind in kinds.items() if key in kind.__struct_fields__]
    return f"did you mean {' or '.join(homes)}?" if homes else "remove it"


def _wrong_value(
    error: msgspec.ValidationError, raw: dict[str, Any], file: Path, lines: Mapping[str, int]
) -> ConfigError:
    """Say which key of the file holds what msgspec refused.

    msgspec names a value by a path such as `$.reload.probe`, and by `[...]` the key of a dict, so
    that the one module concerned has to be found by trying each.
    """
    text, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    if key.startswith("modules[...]"):
        for name, value in raw["modules"].items():
            try:
                msgspec.convert(value, ModuleConfig)
            except msgspec.ValidationError:
                key = key.replace("[...]", f".{name}", 1)
                break
    key = re.sub(r"\[(\d+|\.\.\.)\]", "", key)
    where = location_of(file, lines, key)
    if missing := re.search(r"missing required field `(\w+)`", text):
        what = f"{key or file.name} lacks {missing[1]}"
        raise ConfigError(what, do=f'add {missing[1]} = "..."', location=where)
    found = value_at(raw, key)
    expected, choices = expected_at(Config, key)
    return ConfigError(
        f"{key} has a wrong value",
        found=repr(found),
        expected=expected,
        do=did_you_mean(str(found), choices) or "correct the value",
        location=where,
    )


def _with_absolute_paths(config: Config, base: Path) -> Config:
    """Resolve every path against the file's folder, not against the working directory."""

    def absolute(path: str) -> str:
        return str(base / Path(path).expanduser())

    modules = {
        name: msgspec.structs.replace(
            module,
            source=absolute(module.source),
            tests=None if module.tests is None else absolute(module.tests),
        )
        for name, module in config.modules.items()
    }
    data_dir = str(base / Path(config.data_dir).expanduser())
    files = {
        name: str(base / Path(file).expanduser())
        for name in ("certfile", "keyfile")
        if (file := getattr(config.http, name)) is not None
    }
    http = msgspec.structs.replace(config.http, **files)
    return msgspec.structs.replace(config, modules=modules, data_dir=data_dir, http=http)


__all__ = [
    "CONFIG_FILE",
    "DATA_DIR",
    "BadRecordPolicy",
    "Config",
    "ContractPolicy",
    "DrainPolicy",
    "HttpConfig",
    "ModuleConfig",
    "PersistPolicy",
    "ProbationConfig",
    "ReloadConfig",
    "StateMode",
    "StorageConfig",
    "TelemetryConfig",
    "TrustConfig",
    "WhenBusy",
    "check_modules",
    "load_config",
    "parse_config",
]
