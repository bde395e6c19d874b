"""Prepare: from a source on disk to a candidate beside the old version; no call notices."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion
from packaging.version import Version as Label

from replank.code.generation import Generation, make_generation
from replank.code.loader import LoadedCode, Loader
from replank.code.probe import Probe, ProbeLimits, TestCounts, TestRun
from replank.code.store import Version, VersionStore
from replank.code.trace import constructor_error
from replank.code.trust import find_signer
from replank.config import ReloadConfig, TrustConfig
from replank.coordinator.slot import Routes, Slot
from replank.definition import Definition
from replank.errors import CheckError, DefinitionError, InternalError, PhaseTimeout, SourceError
from replank.isolation.service import Isolation
from replank.module import Runtime
from replank.reading import read_definition
from replank.state.parking import ParkedStore
from replank.state.quarantine import Quarantine
from replank.threads import IMPORT_PREFIX, brisk_switching, in_own_thread, in_thread
from replank.traffic.calls import chain_var
from replank.traffic.lane import Lane
from replank.verification.effects import Effects
from replank.verification.ownership import codes_of
from replank.verification.usage import interface_calls
from replank.verification.watchdog import Watchdog

_STORING_MAX: Final = 2
"""How many sources are stored at the same time: one waits for the disk while one computes. All at
once would all be late, and the probe would wait for the first."""


@dataclass(slots=True)
class Workshop:
    """The tools with which candidates are made; one for each host."""

    store: VersionStore
    loader: Loader
    probe: Probe | None
    watchdog: Watchdog
    config: ReloadConfig
    runtime: Callable[[Slot], Runtime]
    next_generation: Callable[[str], int]
    cache: Path
    """Folder for what the tools keep from one candidate to the next."""
    quarantine: Quarantine
    """Keeps the records that did not migrate."""
    parked: ParkedStore
    """Keeps what an older version has no room for."""
    isolation: Isolation
    """Starts the processes of isolated modules."""
    trust: TrustConfig = field(default_factory=TrustConfig)
    storing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STORING_MAX))

    async def stored(self, slot: Slot, source: Any, digest: str | None) -> Version:
        """Return the immutable version to load: from the store, or stored now from its source.

        Args:
            slot: The module's slot.
            source: Path of the source; None for the slot's own.
            digest: A stored version's digest; None to read the source.

        Raises:
            SourceError: The source is missing, empty or unreadable.
            StoreError: The stored version is missing or changed.
        """
        if digest is not None:
            return await in_thread(self.store.get, digest, source=slot.source)
        async with self.storing:
            return await in_thread(self.store.put, source or slot.source)

    async def make(
        self, slot: Slot, version: Version, effects: Effects, *, probed: bool = True
    ) -> Generation:
        """Load a version beside what serves.

        Args:
            slot: The module's slot.
            version: What to load.
            effects: Notes what its code changes outside itself, also when this raises.
            probed: Whether a child process tries it first; a committed version needs none.

        Raises:
            SourceError: It does not load.
            DefinitionError: It is no module.
        """
        compiled = await self._examine(slot, version, effects) if probed else None
        number = self.next_generation(slot.name)
        if slot.config.isolated:
            return await self._make_isolated(slot, version, number, compiled)
        lane = Lane(slot.gate, number)
        names = {"__replank_lane__": lane, "__replank_chain__": chain_var.get}
        load = functools.partial(
            self.loader.load,
            version,
            slot.name,
            number,
            runtime_names=names,
            code=compiled,
            effects=effects,
        )
        with brisk_switching():
            code = await _loaded(slot.name, load, effects)
        try:
            definition = read_definition(code.module, slot.name)
            slot.loaded.add(definition.owner or code.module)
            with effects.step(code.private_name, exact=True):
                made = self.watchdog.guard(
                    lambda: make_generation(number, version, code, definition, lane),
                    self.config.probe_timeout_s,
                    "the constructor",
                )
        except BaseException as error:
            code.unload()
            if isinstance(error, DefinitionError | InternalError | PhaseTimeout):
                raise  # a cancellation can only be the constructor's own: it awaits nothing
            raise constructor_error(error, slot.name) from error
        made.effects = effects
        effects.owner.entries.update(codes_of(lane.entries.values()))
        return made

    async def _make_isolated(
        self, slot: Slot, version: Version, number: int, compiled: bytes | None
    ) -> Generation:
        made = await self.isolation.make(
            slot.gate,
            number,
            version,
            compiled,
            lambda: slot.config,
            self.config.probe_timeout_s,
            lambda digest: self.stored(slot, None, digest),
        )
        slot.loaded.add(made)
        # What is in memory is its process, and that ends when it is unloaded.
        made.on_unload = lambda: slot.loaded.discard(made)
        return made

    async def signer_of(self, name: str, version: Version) -> str | None:
        """Return who has signed a version; None when nobody has to.

        Raises:
            TrustError: Nobody has who may.
        """
        if not self.trust.require_signature:
            return None
        return await in_thread(find_signer, name, version, self.trust.keys)

    async def run_tests(self, slot: Slot, version: Version) -> TestCounts | None:
        """Run the module's own tests against a version; None when it names none.

        Raises:
            CheckError: They did not all pass.
        """
        if slot.config.tests is None or self.probe is None:
            return None
        path = await in_thread(Path(slot.config.tests).absolute)
        if not await in_thread(path.exists):
            raise CheckError(
                f"there are no tests at {path}",
                module=slot.name,
                expected="a file or folder of tests for pytest",
                do="correct `tests` in the module's configuration",
            )
        limits = ProbeLimits(
            seconds=self.config.tests_timeout_s, memory_bytes=self.config.probe_memory_bytes
        )
        tests = TestRun(path=str(path), source=str(slot.source))
        return await self.probe.run_tests(version, slot.name, tests, limits=limits)

    async def _examine(self, slot: Slot, version: Version, effects: Effects) -> bytes | None:
        if self.probe is None or not self.config.probe:
            return None
        limits = ProbeLimits(
            seconds=self.config.probe_timeout_s, memory_bytes=self.config.probe_memory_bytes
        )
        result = await self.probe.examine(version, slot.name, limits=limits)
        if result.changed and self.config.import_effects == "reject":
            raise SourceError(
                "importing it changes the process around it",
                module=slot.name,
                found="; ".join(result.changed),
                expected="an import that only defines things",
                do="do it in on_start and undo it in on_stop, or allow it: "
                'reload.import_effects = "report"',
            )
        effects.notes += [f"{slot.name}: {one}" for one in result.warnings]
        if result.patched:
            await in_thread(effects.expect_patches, result.patched)
        return result.code


async def _loaded(name: str, load: Callable[[], LoadedCode], effects: Effects) -> LoadedCode:
    """Load in a thread; what comes out after the reload has given up is unloaded at once."""
    loading = asyncio.ensure_future(in_own_thread(IMPORT_PREFIX + name, load))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(functools.partial(_unload_late, effects))
        raise


def _unload_late(effects: Effects, loading: asyncio.Future[LoadedCode]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().unload()
    effects.take_back_late()


def check_uses(
    definition: Definition,
    others: Mapping[str, Definition],
    routes: Routes,
    *,
    allowed: Collection[str] = (),
) -> None:
    """Refuse a module whose used modules are missing, of a wrong version, or lack its calls.

    Args:
        definition: Whose uses to look at.
        others: The definitions of the other modules of the transaction, by name.
        routes: Everything else.
        allowed: Calls that may be missing, by name, as `ledger.deposit`, or `*` for all.

    Raises:
        DefinitionError: A used module is not there, or not as it is needed.
    """
    for use in definition.uses:
        other = others.get(use.module)
        if other is None:
            if use.module not in routes.slots:
                raise DefinitionError(
                    f"it uses {use.module!r}, which the host does not run",
                    module=definition.name,
                    found=f"modules {', '.join(sorted(routes.slots))}",
                    expected=f"a module {use.module}",
                    do=f"add {use.module} to replank.toml and restart, or correct the name",
                )
            generation = routes.find(use.module)
            if generation is None:
                continue  # start-up: it is checked when that module has been loaded
            other = generation.definition
        _check_range(definition.name, use.module, use.versions, other.label)
        _check_calls(definition.name, use.module, use.interface, other, allowed)


def _check_range(user: str, used: str, versions: str, label: str) -> None:
    if not versions:
        return
    try:
        fits = SpecifierSet(versions).contains(Label(label), prereleases=True)
    except InvalidSpecifier as error:
        raise DefinitionError(
            f"uses({used!r}, {versions!r}) is no version range",
            module=user,
            found=versions,
            expected='such as ">=1.4,<3"',
            do=f"correct the range in {user}",
        ) from error
    except InvalidVersion as error:
        raise DefinitionError(
            f"{used} has the label {label!r}, which is no version number",
            module=user,
            found=label,
            expected=f"a version within {versions}",
            do=f"give {used} a version number, or drop the range",
        ) from error
    if not fits:
        raise DefinitionError(
            f"it uses {used} {versions}, but {used} would be {label}",
            module=user,
            found=f"{used} {label}",
            expected=f"{used} {versions}",
            do=f"reload both in one transaction, or widen the range in {user}",
        )


def _check_calls(
    user: str, used: str, interface: type | None, other: Definition, allowed: Collection[str]
) -> None:
    if interface is None:
        return
    wanted = sorted(interface_calls(interface))
    missing = [
        name
        for name in wanted
        if name not in other.calls and not {name, f"{used}.{name}", "*"} & set(allowed)
    ]
    if missing:
        raise DefinitionError(
            f"it uses calls that {used} {other.label} does not have: {', '.join(missing)}",
            module=user,
            found=f"{used} offers {', '.join(sorted(other.calls))}",
            expected=", ".join(wanted),
            do=f"reload {used} to a version with these calls in the same transaction",
        )
