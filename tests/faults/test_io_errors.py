"""A disk that fails at any moment: a clear error, the old version serves, the next try works."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from replank.testing.faults import DiskFaults
from tests.faults import io_errors
from tests.faults.crash_lives import NAMES, write

SEED = int(os.environ.get("REPLANK_SEED", "20240229"))
TRIALS = 16
"""Of some 450; `python -m bench.faults --io` does them all."""


async def test_whatever_fails_the_old_version_serves_and_the_next_try_works(
    tmp_path: Path,
) -> None:
    operations = await io_errors.count(tmp_path / "counted")
    assert len(operations) > 100
    chance = random.Random(SEED)
    for at in sorted(chance.sample(range(1, len(operations) + 1), TRIALS)):
        error = chance.choice(("full", "error"))
        lasting, when = chance.choice(io_errors.WAYS)
        found = await io_errors.run(tmp_path / f"{at}", at, error, lasting=lasting, when=when)
        name = f"{at}:{error}:{'lasting' if lasting else 'once'}:{when}"
        assert not found, f"{operations[at - 1]}: {found}; replay: bench.faults --io {name}"


@contextmanager
def no_room(size_max: int) -> Iterator[None]:
    """Let no file of this process grow beyond this: a fault of the system itself."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_real_limit_of_the_system_is_told_as_the_pretended_one_is(tmp_path: Path) -> None:
    """The verified twin of `DiskFaults`: here nothing is pretended."""
    with DiskFaults(tmp_path / "data") as disk:
        life = io_errors.Life(tmp_path, disk)
        write(tmp_path, "1")
        await life.start()
        life.labels = dict.fromkeys(NAMES, "1")
        source = tmp_path / "alpha.py"
        source.write_text(source.read_text() + "#" * 1_000_000)
        with no_room(500_000):
            report = await life.host.reload("alpha")
        assert report.outcome == "rejected"
        assert report.error is not None
        assert report.error.kind == "StoreError"
        assert "too large" in (report.error.found or "")
        await life.check()
        write(tmp_path, "2", ("alpha",))
        assert await life.reload(life.host.reload("alpha"), {"alpha": "2"})
        await life.host.stop()
    assert life.found == []
