"""Keep every version of a module's source, immutable, under the digest of its content.

`folder/<first two hex digits>/<hex digits>/<entry...>`: a version's place says what it holds, so
storing the same source twice gives the same place, and a place whose content no longer fits its
name is noticed. A version appears at its place by one rename, whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from replank.code.helpers import FOLDER, Helper, helpers_of
from replank.code.source import SourceTree, digest_files, digest_of, list_files, read_source
from replank.errors import StoreError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable copy of a module's source.

    Args:
        digest: The content's address, "sha256:<hex>".
        root: Folder that holds the stored tree; nothing in it ever changes.
        entry: Name under which the source imports itself, for example "ledger".
        is_package: Whether the entry is a folder with `__init__.py`.
        source: Where the author keeps it; only for messages.
        files: Relative posix paths below `root`, sorted.
    """

    digest: str
    root: Path
    entry: str
    is_package: bool
    source: Path
    files: tuple[str, ...]

    @property
    def entry_file(self) -> str:
        """Relative path of the file that is executed first."""
        return f"{self.entry}/__init__.py" if self.is_package else f"{self.entry}.py"

    def author_path(self, relative: str) -> Path:
        """Return where the author keeps the file with this path below `root`."""
        if relative.startswith(f"{FOLDER}/"):
            return self.source.parent / relative.removeprefix(f"{FOLDER}/")
        if not self.is_package:
            return self.source
        return self.source / relative.removeprefix(f"{self.entry}/")

    def helpers(self) -> list[tuple[Helper, Version]]:
        """Return the helpers stored with it, each as a version of its own; reads them."""
        found = helpers_of(
            self.files, lambda relative: (self.root / relative).read_bytes(), digest_files
        )
        return [
            (
                one,
                Version(
                    one.private_name,
                    self.root / FOLDER,
                    one.name,
                    one.is_package,
                    self.source.parent / (one.name if one.is_package else f"{one.name}.py"),
                    one.files,
                ),
            )
            for one in found
        ]


class Stored(NamedTuple):
    """A version as plain values, for another process."""

    digest: str
    root: str
    entry: str
    is_package: bool
    source: str
    files: tuple[str, ...]

    @classmethod
    def of(cls, version: Version) -> Stored:
        """Return a version as plain values."""
        root, source = str(version.root), str(version.source)
        return cls(version.digest, root, version.entry, version.is_package, source, version.files)

    def version(self) -> Version:
        """Return the version."""
        root, source = Path(self.root), Path(self.source)
        files = tuple(self.files)
        return Version(self.digest, root, self.entry, self.is_package, source, files)


class VersionStore:
    """A content-addressed folder of versions; every method blocks, any thread may call.

    Args:
        folder: Where versions are kept; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder).absolute()

    def put(self, source: Path) -> Version:
        """Store a source, or find that it is stored.

        Args:
            source: A file `name.py` or a folder with `__init__.py`.

        Returns:
            The stored version; its files are on the disk, not merely in its cache.

        Raises:
            SourceError: The source cannot be taken.
            StoreError: The store cannot be written.
        """
        tree = read_source(source)
        root = self._place(tree.digest)
        version = Version(
            tree.digest,
            root,
            tree.entry,
            tree.is_package,
            Path(source).absolute(),
            tuple(sorted(tree.files)),
        )
        with _disk_errors(root):
            if not self._holds(version):
                self._write(tree, root)
        return version

    def get(self, digest: str, source: Path | None = None) -> Version:
        """Find a stored version and verify it.

        Args:
            digest: The content's address, "sha256:<hex>".
            source: Where the author keeps it, for messages; the stored place when unknown.

        Raises:
            StoreError: It is not stored, or what is stored has changed.
        """
        root = self._place(digest)
        with _disk_errors(root):
            try:
                # The temporary and damaged siblings lie beside the root, never inside it.
                (entry,) = [one for one in root.iterdir() if one.name != FOLDER]
            except (FileNotFoundError, NotADirectoryError, ValueError):
                raise StoreError(
                    f"version {digest} is not in the store",
                    expected=f"one file or folder in {root}",
                    do="restore the data directory from a backup, or reload from the source",
                ) from None
            is_package = entry.is_dir()
            files = tuple(sorted(_stored_files(root)))
        version = Version(
            digest,
            root,
            entry.name if is_package else entry.stem,
            is_package,
            entry if source is None else Path(source).absolute(),
            files,
        )
        self.verify(version)
        return version

    def verify(self, version: Version) -> None:
        """Read a stored version back and compare it with its digest.

        Raises:
            StoreError: Something is missing, added or changed.
        """
        with _disk_errors(version.root):
            found = digest_files(_stored_files(version.root))
        if found != version.digest:
            raise StoreError(
                "a stored version was changed",
                found=found,
                expected=version.digest,
                do=f"remove {version.root} and reload from the source",
            )

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all stored versions, sorted; they are not verified."""
        found = (f"sha256:{place.name}" for place in self._folder.glob("[0-9a-f][0-9a-f]/*"))
        return tuple(sorted(digest for digest in found if _DIGEST.fullmatch(digest)))

    def remove(self, digest: str) -> None:
        """Forget a version; nothing happens when it is not stored.

        Raises:
            StoreError: It cannot be removed.
        """
        root = self._place(digest)
        with _disk_errors(root):
            if root.is_dir():
                self._discard(root)

    def sweep(self) -> None:
        """Remove what a crash has left half written; only for the one that owns the folder."""
        for pattern in ("*/.making-*", "*/.removed-*"):
            for left in self._folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)

    def _place(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise StoreError(
                "this is no digest of a version", found=repr(digest), expected="sha256:<64 hex>"
            )
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name

    def _holds(self, version: Version) -> bool:
        """Return whether the version is stored and sound; clear the place when it is damaged."""
        if not version.root.is_dir():
            return False
        try:
            self.verify(version)
        except StoreError:
            # The right bytes are at hand: mend the store instead of refusing the author.
            self._discard(version.root)
            return False
        return True

    def _write(self, tree: SourceTree, root: Path) -> None:
        root.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=".making-", dir=root.parent))
        try:
            making.chmod(0o755)
            for relative, content in tree.files.items():
                path = making / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_durably(path, content)
            for folder, _, _ in os.walk(making):
                _sync_folder(Path(folder))
            try:
                making.rename(root)
            except OSError:
                # Another thread or host stored the same version meanwhile: the same bytes.
                if not root.is_dir():
                    raise
            _sync_folder(root.parent)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _discard(self, root: Path) -> None:
        # Renamed first, so that nobody finds half of it.
        aside = Path(tempfile.mkdtemp(prefix=".removed-", dir=root.parent))
        root.rename(aside / root.name)
        shutil.rmtree(aside, ignore_errors=True)


def _stored_files(root: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for item in root.iterdir():
        if item.is_dir():
            files.update((relative, path.read_bytes()) for relative, path in list_files(item))
        else:
            files[item.name] = item.read_bytes()
    return files


def _write_durably(path: Path, content: bytes) -> None:
    # Read-only: a stored version that an editor opens from a traceback is not edited by mistake.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:  # noqa: PTH123 - the mode needs os.open
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems cannot sync a folder; the rename is atomic there all the same.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            "the store of versions cannot be used",
            found=f"{error.strerror or type(error).__name__}: {error.filename or place}",
            expected=f"a readable and writable folder {place.parent}",
            do="check the disk's space and the permissions of the data directory",
        ) from error


__all__ = ["Stored", "Version", "VersionStore", "digest_of"]
