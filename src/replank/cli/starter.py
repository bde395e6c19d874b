"""What `replank init` writes: a configuration that explains itself, and a module that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from replank.config import CONFIG_FILE
from replank.errors import UsageError

MODULE_FILE: Final = "counter.py"

CONFIG_TEXT: Final = """\
# Replank. Start: replank run     Look: replank status     Reload: replank reload counter
# What is commented out stands at its default. Every key: docs/reference/config.md

# data_dir = ".replank"             # journal, stored versions, snapshots; one host each
# stop_timeout_s = 10.0             # calls in flight and queued messages get this long at a stop

[modules]
counter = "counter.py"              # name = file or package folder, relative to this file

# A module with settings of its own:
# [modules.ledger]
# source = "ledger.py"
# drain_policy = "abort"            # calls that outlive the drain: abort, cancel or detach
# durable = false                   # true: an accepted message is on the disk
# persist = "stop"                  # state to the disk: stop, commit or interval
# isolation = "none"                # process: a crash or leak of it never takes the host (Linux)

[reload]
# drain_timeout_s = 5.0             # calls in flight may take this long before a reload gives up
# max_pause_s = 1.0                 # a reload that would make calls wait longer is rejected
# probation_s = 10.0                # after a commit the old state is kept in step this long
# probe = true                      # try each candidate in a child process first

[http]
# enabled = true
# host = "127.0.0.1"                # beyond loopback every request needs the token
port = 8321                         # 0: any free port
# max_body_bytes = 1048576
# certfile = "tls/cert.pem"         # with it: TLS only
# keyfile = "tls/key.pem"

[storage]
# snapshots_kept = 3
# reloads_kept = 10000

[telemetry]
# events_kept = 1000
# log = "text"                      # json: one object a line
# traces = false                    # OpenTelemetry spans; pip install 'replank[otel]'

[schedule]
# timezone = "UTC"                  # of hours, times and cron lines
# windows = []                      # such as ["mon-fri 22:00-06:00"]: reloads only then
# quiet_hours = []                  # and never then
# debounce_s = 0.0                  # gather requests of tied modules this long

[watch]
# enabled = false                   # true, or `replank run --watch`: reload what is saved
# polling = false                   # true where the file system tells of no changes
"""

MODULE_TEXT: Final = '''\
"""A counter. Run it, call it, then change it while it runs: see the end of this file."""

from replank import Module, check, query


class Counter(Module, version="1.0"):
    count: int = 0  # state: an annotated field; it survives every reload

    async def increment(self, by: int = 1) -> int:
        """Count, and return the new value. A public method is a call."""
        self.count += by
        return self.count

    @query
    async def read(self) -> int:
        """Return the value. A query promises not to write."""
        return self.count

    @check
    async def is_not_negative(self) -> bool:
        """Checked before calls enter a new version; False or an exception rejects it."""
        return self.count >= 0


# replank run                         in one terminal
# replank call counter increment      in another: 1
# Change `by: int = 1` to `by: int = 10` and the version to "1.1", save, then:
# replank reload counter
# replank call counter increment      11: the count was kept
'''


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What `replank init` did."""

    folder: str
    written: tuple[str, ...]


def write_starter(folder: Path, *, force: bool = False) -> Written:
    """Write the files; nothing that is there already is touched.

    Args:
        folder: Where to; made when it is missing.
        force: Whether to replace what is there.

    Raises:
        UsageError: A file is there already, or cannot be written.
    """
    files = {CONFIG_FILE: CONFIG_TEXT, MODULE_FILE: MODULE_TEXT}
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise UsageError(
            f"{' and '.join(there)} in {folder} would be replaced",
            do="choose another folder (replank init FOLDER), or add --force",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written",
            found=error.strerror or str(error),
            do="choose a folder of your own: replank init FOLDER",
        ) from error
    return Written(folder=str(folder), written=tuple(files))


__all__ = ["CONFIG_TEXT", "MODULE_TEXT", "Written", "write_starter"]
