"""Examinations of a data directory; nothing in it is changed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from replank.cli.findings import Finding, Situation, fault, warning, well
from replank.control import wire
from replank.control.client import Client
from replank.control.guard import TOKEN_FILE
from replank.control.locate import (
    CONTACT_FILE,
    SOCKET_NAME,
    SOCKET_PATH_MAX_BYTES,
    Contact,
    read_contact,
)
from replank.errors import ReplankError, StorageError, UsageError
from replank.journal.journal import JOURNAL_FILE, read_history
from replank.journal.lock import read_owner
from replank.journal.reading import check_journal

_ROOM_MIN_BYTES: Final = 16 << 20
_ROOM_SMALL_BYTES: Final = 256 << 20
_CLOCK_SLACK_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 3.0
_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs"})
_DAMAGED: Final = "keep a copy of the folder, then restore it from a backup or choose another one"


def examine_folder(here: Situation) -> Iterator[Finding]:
    """Say whether the folder is ours alone, can be written, and has room."""
    folder = here.data_dir
    what = "data directory"
    there = _nearest(folder)
    if folder.exists() and not folder.is_dir():
        do = "move the file away, or choose another with --data-dir"
        yield fault(what, f"{folder} is a file, and no folder", do)
        return
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".replank-doctor-"):
            pass
    except OSError as error:
        yield fault(
            what,
            f"{there} cannot be written: {error.strerror or error}",
            "correct its owner and mode, or choose another with --data-dir",
        )
        return
    if there != folder:
        yield well(what, f"{folder} will be made by the first run")
        return
    info = folder.stat()
    if info.st_uid != os.getuid():
        do = "run as its owner, or choose another with --data-dir"
        yield fault(what, f"{folder} belongs to user {info.st_uid}", do)
    elif info.st_mode & 0o077:
        mode = f"{info.st_mode & 0o777:o}"
        yield warning(
            what, f"{folder} may be entered by others, mode {mode}", f"chmod 700 {folder}"
        )
    else:
        yield well(what, f"{folder}, this user's alone")
    kind = _file_system(folder)
    if kind in _REMOTE:
        do = "choose a local disk with --data-dir: locks do not hold there"
        yield fault("file system", f"{kind} is a network's", do)


def examine_room(here: Situation) -> Iterator[Finding]:
    """Say whether the disk has room."""
    free = shutil.disk_usage(_nearest(here.data_dir)).free
    text = f"{free / (1 << 30):.1f} GiB free"
    do = "make room: what cannot be written down is not accepted"
    if free < _ROOM_MIN_BYTES:
        yield fault("disk", text, do)
    elif free < _ROOM_SMALL_BYTES:
        yield warning("disk", text, do)
    else:
        yield well("disk", text)


def find_host(data_dir: Path) -> tuple[Finding, int | None]:
    """Say whether a host runs, and whether a dead one has left its notes.

    Args:
        data_dir: The data directory.

    Returns:
        The finding, and the pid of the host that answers.
    """
    what = "host"
    owner = read_owner(data_dir)
    if not (data_dir / CONTACT_FILE).exists():
        if owner is not None and not _alive(owner):
            return _left_over(owner), None
        if owner is not None:
            do = "wait for it to start or to end, or look at what it does"
            return warning(what, f"pid {owner} holds the folder and takes no commands", do), None
        return well(what, "none runs here"), None
    try:
        contact = read_contact(data_dir)
    except UsageError as error:
        return fault(what, error.what, error.do or "start the host again"), None
    if not _alive(contact.pid):
        return _left_over(contact.pid), None
    return _ask(contact)


def _ask(contact: Contact) -> tuple[Finding, int | None]:
    try:
        with Client(contact, timeout_s=_ANSWER_TIMEOUT_S) as client:
            hello = client.version()
    except ReplankError as error:
        do = "look at what it does and at its log; if it is stuck, end it and start it again"
        return fault("host", f"pid {contact.pid} does not answer: {error.what}", do), None
    if hello.protocol != wire.PROTOCOL:
        found = f"pid {hello.pid} speaks protocol {hello.protocol}, this command {wire.PROTOCOL}"
        return fault("host", found, "use the `replank` of the host's installation"), hello.pid
    return well("host", f"pid {hello.pid} answers, Replank {hello.version}"), hello.pid


def _left_over(pid: int) -> Finding:
    do = "start the host again: it takes up the last committed versions and says what it undid"
    return warning("host", f"pid {pid} ended without stopping: its notes are left", do)


def examine_journal(here: Situation) -> Iterator[Finding]:
    """Say whether the journal can be read and is whole, and what its newest time says."""
    path = here.data_dir / JOURNAL_FILE
    if not path.is_file():
        yield well("journal", "none yet")
        return
    try:
        problems = check_journal(path)
        newest = read_history(path, 1)
    except StorageError as error:
        yield fault("journal", error.found or error.what, error.do or _DAMAGED)
        return
    if problems:
        yield fault("journal", problems[0], _DAMAGED)
        return
    yield well("journal", f"{path.name} opens and is whole")
    if newest:
        yield from _examine_clock(newest[0].started_at)


def _examine_clock(newest: str) -> Iterator[Finding]:
    with contextlib.suppress(ValueError):
        ahead = (datetime.fromisoformat(newest) - datetime.now(UTC)).total_seconds()
        if ahead > _CLOCK_SLACK_S:
            found = f"it is {ahead:.0f} s behind the last reload in the journal"
            yield warning("clock", found, "set the clock; the history's order will look wrong")
        else:
            yield well("clock", "not behind the journal")


def examine_socket(here: Situation) -> Iterator[Finding]:
    """Say whether the path of the Unix socket is short enough for the system."""
    path = here.data_dir.resolve() / "run" / SOCKET_NAME
    length = len(os.fsencode(path))
    if length > SOCKET_PATH_MAX_BYTES:
        # It works: the host then makes a private temporary folder for it.
        found = f"its path has {length} bytes; it goes to a temporary folder"
        yield warning(
            "control socket", found, "choose a shorter --data-dir to keep all in one place"
        )
    else:
        yield well("control socket", f"its path has {length} of {SOCKET_PATH_MAX_BYTES} bytes")


def examine_token(here: Situation) -> Iterator[Finding]:
    """Say whether the token is its owner's alone."""
    path = here.data_dir / TOKEN_FILE
    if not path.exists():
        yield well("token", "made by the first run")
    elif path.stat().st_mode & 0o077 or path.stat().st_uid != os.getuid():
        do = f"remove {path} and start the host again: it makes a new one"
        yield warning("token", "others may read it", do)
    else:
        yield well("token", "its owner's alone")


def _nearest(folder: Path) -> Path:
    """Return the folder, or the first one above it that is there."""
    folder = folder.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _file_system(folder: Path) -> str:
    """Return the kind of file system, or "" where the system does not say."""
    try:
        lines = Path("/proc/mounts").read_text("utf-8").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, found
    return kind


__all__ = [
    "examine_folder",
    "examine_journal",
    "examine_room",
    "examine_socket",
    "examine_token",
    "find_host",
]
