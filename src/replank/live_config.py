"""A configuration that is read again while the host runs: checked whole, then taken over at once.

The phases of a reload, as far as there is something to do: the file is read and checked strictly
(Prepare; what is wrong there is rejected and nothing has changed), what may change live is told
from what needs a restart, and the new values are assigned in one turn of the loop (Swap). A reload
of a module that is under way goes on with the deadlines that it finds in each phase.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from replank.config import Config, load_config
from replank.coordinator.coordinator import ReloadCoordinator
from replank.coordinator.slot import Routes
from replank.errors import ReplankError, UsageError
from replank.instrumentation.events import Bus, ConfigReloaded, Warned
from replank.scheduling.desk import ScheduleDesk
from replank.scheduling.watch import Watcher
from replank.threads import in_thread

_LIVE_SECTIONS: Final = frozenset({"reload", "schedule", "watch"})
_LIVE_TOP: Final = frozenset({"stop_timeout_s"})
_LIVE_OF_MODULE: Final = frozenset(
    {
        "source",
        "drain_policy",
        "drain_timeout_s",
        "max_waiting",
        "max_messages",
        "mode",
        "contract",
        "type_check",
        "windows",
        "quiet_hours",
        "rate_limit",
        "isolation_memory_bytes",
        "isolation_cpu_share",
        "isolation_cpu_s",
        "isolation_hang_s",
        "isolation_restarts",
        "isolation_restart_window_s",
        "isolation_backoff_s",
    }
)
_NEEDS_RESTART: Final = frozenset(
    {"reload.probe", "reload.max_retired", "reload.leak_check_s", "watch.enabled"}
)
"""Keys of live sections that are looked at when the host starts, and never again."""
_ABSENT: Final = "absent"


class ConfigChange(msgspec.Struct, frozen=True, kw_only=True):
    """One key that the file gives another value than before."""

    key: str
    before: Any = None
    after: Any = None


class ConfigReport(msgspec.Struct, frozen=True, kw_only=True):
    """What reading the configuration again has changed."""

    path: str
    applied: tuple[ConfigChange, ...] = ()
    """What holds from now on."""
    needs_restart: tuple[ConfigChange, ...] = ()
    """What the file says and what does not hold before the host is started again."""


@dataclass(slots=True)
class ConfigFile:
    """Where a host's configuration came from, and what was read there last."""

    path: Path
    read: Config


@dataclass(frozen=True, slots=True)
class _Parts:
    """Who has to be told of new values."""

    coordinator: ReloadCoordinator
    routes: Routes
    desk: ScheduleDesk
    watchers: list[Watcher]


class ReloadsConfig:
    """The method of a host that reads its configuration again."""

    config: Config
    bus: Bus
    config_file: ConfigFile | None
    _coordinator: ReloadCoordinator
    _routes: Routes
    _desk: ScheduleDesk
    _watchers: list[Watcher]

    async def reload_config(self, path: str | os.PathLike[str] | None = None) -> ConfigReport:
        """Read the configuration file again and take over what may change while the host runs.

        What was given on top of the file (command line, arguments of `Host`) stays as it is.

        Args:
            path: Another file than the one that was read at the start.

        Returns:
            What holds from now on, and what needs a restart.

        Raises:
            ConfigError: The file, or the environment, is wrong; nothing has changed.
            UsageError: The host was made without a file.
        """
        file = self.config_file
        if file is None:
            raise UsageError(
                "this host was made without a configuration file",
                do="start it with one: replank run replank.toml, or Host.open(...)",
            )
        wanted = await in_thread(load_config, file.path if path is None else path)
        changes = tuple(differences(file.read, wanted))
        live = tuple(one for one in changes if is_live(one.key))
        later = tuple(one for one in changes if not is_live(one.key))
        self.config = merged(self.config, wanted, live)
        # What needs a restart is told again at the next reading: it still differs.
        file.read = merged(file.read, wanted, live)
        parts = _Parts(self._coordinator, self._routes, self._desk, self._watchers)
        _take_over(parts, self.config)
        report = ConfigReport(path=str(path or file.path), applied=live, needs_restart=later)
        self.bus.publish(
            ConfigReloaded(
                path=file.path.name,
                applied=tuple(one.key for one in live),
                needs_restart=tuple(one.key for one in later),
            )
        )
        return report

    def _others_to_watch(self) -> dict[Path, Callable[[], Awaitable[None]]]:
        if self.config_file is None:
            return {}

        async def read_again() -> None:
            try:
                await self.reload_config()
            except ReplankError as error:
                self.bus.publish(Warned(text=f"the configuration stays as it was: {error}"))

        return {self.config_file.path.absolute(): read_again}


def differences(before: Config, after: Config) -> list[ConfigChange]:
    """Return every key whose value differs, in the order of the configuration.

    Args:
        before: One configuration.
        after: Another.
    """
    old, new = _flat(before), _flat(after)
    both = before.modules.keys() & after.modules.keys()
    keys = [
        key
        for key in dict.fromkeys((*old, *new))
        # A module that comes or goes is one change, not ten.
        if not key.startswith("modules.") or key.count(".") == 1 or key.split(".")[1] in both
    ]
    return [
        ConfigChange(key=key, before=old.get(key, _ABSENT), after=new.get(key, _ABSENT))
        for key in keys
        if old.get(key, _ABSENT) != new.get(key, _ABSENT)
    ]


def _flat(config: Config) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, value in msgspec.to_builtins(config).items():
        if section == "modules":
            for name, module in value.items():
                flat[f"modules.{name}"] = "present"
                flat |= {f"modules.{name}.{key}": one for key, one in module.items()}
        elif isinstance(value, dict):
            flat |= {f"{section}.{key}": one for key, one in value.items()}
        else:
            flat[section] = value
    return flat


def is_live(key: str) -> bool:
    """Say whether a key may change while the host runs.

    Args:
        key: Dotted, such as "modules.ledger.drain_timeout_s".
    """
    section, _, rest = key.partition(".")
    if key in _NEEDS_RESTART:
        return False
    if section == "modules":
        return rest.partition(".")[2] in _LIVE_OF_MODULE
    return section in _LIVE_SECTIONS if rest else section in _LIVE_TOP


def merged(running: Config, wanted: Config, live: tuple[ConfigChange, ...]) -> Config:
    """Return what runs with the live changes taken over.

    Args:
        running: What holds now.
        wanted: What the file says.
        live: Which keys to take from it.
    """
    for change in live:
        section, _, rest = change.key.partition(".")
        value: Any = getattr(wanted, section)
        if section == "modules":
            name, _, key = rest.partition(".")
            one = getattr(wanted.modules[name], key)
            module = msgspec.structs.replace(running.modules[name], **{key: one})
            value = {**running.modules, name: module}
        elif rest:
            inner = getattr(running, section)
            value = msgspec.structs.replace(inner, **{rest: getattr(value, rest)})
        running = msgspec.structs.replace(running, **{section: value})
    return running


def _take_over(parts: _Parts, config: Config) -> None:
    """Let everybody have the new values; nothing waits in between."""
    parts.coordinator.config = config
    parts.coordinator.workshop.config = config.reload
    for name, slot in parts.routes.slots.items():
        if (module := config.modules.get(name)) is None:
            continue
        slot.config, slot.source = module, Path(module.source).absolute()
        slot.gate.waiting_max, slot.inbox.messages_max = module.max_waiting, module.max_messages
    parts.desk.agenda.reconfigure(config)
    for watcher in parts.watchers:
        watcher.reconfigure(
            config.watch, {name: slot.source for name, slot in parts.routes.slots.items()}
        )


__all__ = [
    "ConfigChange",
    "ConfigFile",
    "ConfigReport",
    "ReloadsConfig",
    "differences",
    "is_live",
    "merged",
]
