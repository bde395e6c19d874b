"""The store keeps versions immutable, whole, and under the digest of their content."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from replank.code.source import digest_of
from replank.code.store import VersionStore
from replank.errors import SourceError, StoreError


def test_a_file_is_stored_under_its_digest(write, store: VersionStore) -> None:
    path = write("x = 1\n")
    version = store.put(path)
    assert version.digest == digest_of(path)
    assert version.root.name == version.digest.removeprefix("sha256:")
    assert version.root.parent.name == version.root.name[:2]
    assert (version.entry, version.is_package, version.files) == ("ledger", False, ("ledger.py",))
    assert version.source == path
    assert (version.root / version.entry_file).read_text() == "x = 1\n"


def test_a_package_is_stored_with_its_resources(write, store: VersionStore) -> None:
    package = write({"__init__.py": "", "texts/hello.txt": "hello"})
    version = store.put(package)
    assert version.files == ("ledger/__init__.py", "ledger/texts/hello.txt")
    assert version.entry_file == "ledger/__init__.py"
    assert (version.root / "ledger/texts/hello.txt").read_text() == "hello"
    assert version.author_path("ledger/texts/hello.txt") == package / "texts/hello.txt"


def test_storing_twice_writes_once(write, store: VersionStore) -> None:
    path = write("x = 1\n")
    first = store.put(path)
    written = (first.root / "ledger.py").stat()
    assert store.put(path) == first
    assert (first.root / "ledger.py").stat() == written
    assert store.digests() == (first.digest,)


def test_a_stored_file_is_read_only_and_nothing_else_lies_beside_it(
    write, store: VersionStore
) -> None:
    version = store.put(write("x = 1\n"))
    assert (version.root / "ledger.py").stat().st_mode & 0o222 == 0
    assert list(version.root.parent.iterdir()) == [version.root]


def test_a_version_outlives_an_edit_of_its_source(write, store: VersionStore) -> None:
    first = store.put(write("x = 1\n"))
    second = store.put(write("x = 2\n"))
    assert first.digest != second.digest
    assert (first.root / "ledger.py").read_text() == "x = 1\n"
    assert store.digests() == tuple(sorted((first.digest, second.digest)))


@pytest.mark.parametrize("content", ["x = 1\n", {"__init__.py": "", "a/b.py": "y = 2\n"}])
def test_a_stored_version_is_found_again(write, tmp_path: Path, content) -> None:
    source = write(content)
    version = VersionStore(tmp_path / "versions").put(source)
    assert VersionStore(tmp_path / "versions").get(version.digest, source) == version


def test_without_a_source_the_stored_place_stands_for_it(write, store: VersionStore) -> None:
    version = store.put(write("x = 1\n"))
    assert store.get(version.digest).source == version.root / "ledger.py"


def test_a_version_that_is_not_stored_is_refused(store: VersionStore) -> None:
    with pytest.raises(StoreError, match="is not in the store"):
        store.get("sha256:" + "0" * 64)


@pytest.mark.parametrize("digest", ["", "sha256:12", "../../etc/passwd", "md5:" + "0" * 64])
def test_what_is_no_digest_is_refused(store: VersionStore, digest: str) -> None:
    with pytest.raises(StoreError, match="no digest"):
        store.get(digest)


def _damage(root: Path) -> None:
    path = root / "ledger.py"
    path.chmod(0o644)
    path.write_text("x = 666\n")


def test_a_changed_version_is_noticed(write, store: VersionStore) -> None:
    version = store.put(write("x = 1\n"))
    _damage(version.root)
    for look in (lambda: store.verify(version), lambda: store.get(version.digest)):
        with pytest.raises(StoreError, match="was changed") as caught:
            look()
        assert caught.value.expected == version.digest


def test_an_added_file_is_noticed(write, store: VersionStore) -> None:
    version = store.put(write({"__init__.py": ""}))
    (version.root / "ledger" / "extra.py").write_text("x = 1\n")
    with pytest.raises(StoreError, match="was changed"):
        store.verify(version)


def test_a_cache_that_another_tool_left_in_the_store_does_not_matter(
    write, store: VersionStore
) -> None:
    version = store.put(write({"__init__.py": ""}))
    (version.root / "ledger" / "__pycache__").mkdir()
    (version.root / "ledger" / "__pycache__" / "x.pyc").write_bytes(b"")
    store.verify(version)


def test_putting_a_damaged_version_again_mends_it(write, store: VersionStore) -> None:
    path = write("x = 1\n")
    version = store.put(path)
    _damage(version.root)
    assert store.put(path) == version
    store.verify(version)
    assert list(version.root.parent.iterdir()) == [version.root]


def test_a_removed_version_is_gone_and_removing_it_again_is_no_error(
    write, store: VersionStore
) -> None:
    version = store.put(write("x = 1\n"))
    store.remove(version.digest)
    store.remove(version.digest)
    assert store.digests() == ()
    assert list(version.root.parent.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    write, store: VersionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("x = 1\n")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="store of versions cannot be used") as caught:
            store.put(path)
    assert "No space left on device" in (caught.value.found or "")
    assert store.digests() == ()
    store.verify(store.put(path))


def test_a_store_that_cannot_be_made_is_said(write, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(StoreError):
        VersionStore(tmp_path / "taken").put(write("x = 1\n"))


def test_a_bad_source_stores_nothing(write, store: VersionStore) -> None:
    with pytest.raises(SourceError):
        store.put(write("x = 1\n", name="my-ledger"))
    assert store.digests() == ()


def test_many_threads_may_store_the_same_source(write, store: VersionStore) -> None:
    path = write({"__init__.py": "", **{f"part{i}.py": f"x = {i}\n" for i in range(20)}})
    together = threading.Barrier(8)
    stored: list[object] = []

    def put() -> None:
        together.wait()
        stored.append(store.put(path))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored) == 8
    assert len(set(stored)) == 1
    (version,) = set(stored)
    store.verify(version)
    assert list(version.root.parent.iterdir()) == [version.root]
