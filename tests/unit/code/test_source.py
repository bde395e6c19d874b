"""Sources are read whole and unmixed, or refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from replank.code import source as source_module
from replank.code.source import digest_files, digest_of, read_source
from replank.errors import SourceError


def test_the_digest_is_that_of_content_and_relative_path_only(write) -> None:
    one = write("x = 1\n", folder="one")
    two = write("x = 1\n", folder="two")
    os.utime(two, (1, 1))
    assert digest_of(one) == digest_of(two)
    assert digest_of(one).startswith("sha256:")
    assert digest_of(write("x = 2\n", folder="two")) != digest_of(one)
    assert digest_of(write("x = 1\n", name="other")) != digest_of(one)


def test_the_digest_keeps_name_and_content_apart() -> None:
    assert digest_files({"a": b"bc"}) != digest_files({"ab": b"c"})
    assert digest_files({"a": b"1", "b": b"2"}) == digest_files({"b": b"2", "a": b"1"})


def test_a_same_size_edit_within_one_second_changes_the_digest(write) -> None:
    path = write("rate = 1\n")
    before = digest_of(path)
    stamp = path.stat().st_mtime_ns
    path.write_text("rate = 2\n")
    os.utime(path, ns=(stamp, stamp))
    assert digest_of(path) != before


def test_a_package_takes_every_file_but_caches_hidden_files_and_editor_leavings(write) -> None:
    files = {
        "__init__.py": "",
        "sub/data.json": "{}",
        "sub/code.py": "x = 1\n",
        "__pycache__/x.cpython-311.pyc": "cache",
        "old.pyc": "cache",
        ".git/config": "hidden",
        ".code.py.swp": "editor",
        "code.py~": "editor",
        "#code.py#": "editor",
        "save.tmp": "editor",
    }
    tree = read_source(write(files))
    assert sorted(tree.files) == [
        "ledger/__init__.py",
        "ledger/sub/code.py",
        "ledger/sub/data.json",
    ]
    assert (tree.entry, tree.is_package) == ("ledger", True)


def test_a_package_with_an_empty_init_is_no_truncation(write) -> None:
    assert read_source(write({"__init__.py": "", "core.py": ""})).is_package


def test_linked_folders_are_followed_and_circles_end(write, tmp_path: Path) -> None:
    package = write({"__init__.py": "", "parts/a.py": "x = 1\n"})
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "common.py").write_text("y = 1\n")
    (package / "linked").symlink_to(tmp_path / "shared")
    (package / "parts" / "circle").symlink_to(package)
    assert "ledger/linked/common.py" in read_source(package).files


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file_is_refused_as_a_truncation(write, content: str) -> None:
    path = write("x = 1\n")
    path.write_text(content)
    with pytest.raises(SourceError, match="is empty") as caught:
        read_source(path)
    assert caught.value.location == "ledger.py:1"
    assert caught.value.do


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no"):
        read_source(tmp_path / "ledger.py")
    (tmp_path / "file.py").write_text("x = 1\n")
    with pytest.raises(SourceError, match="there is no"):
        read_source(tmp_path / "file.py" / "ledger.py")


def test_a_folder_without_init_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    with pytest.raises(SourceError, match="is no package") as caught:
        read_source(tmp_path / "ledger")
    assert "__init__.py" in str(caught.value)


@pytest.mark.parametrize("name", ["ledger.txt", "ledger"])
def test_a_file_that_is_no_python_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x = 1\n")
    with pytest.raises(SourceError, match="is no Python source"):
        read_source(tmp_path / name)


def test_a_pipe_is_refused_instead_of_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ledger.py")
    with pytest.raises(SourceError, match="is no Python source"):
        read_source(tmp_path / "ledger.py")


@pytest.mark.parametrize("name", ["my-ledger", "2ledger", "class"])
def test_a_name_that_cannot_be_imported_is_refused(write, name: str) -> None:
    with pytest.raises(SourceError, match="cannot be imported by its name") as caught:
        read_source(write("x = 1\n", name=name))
    assert caught.value.do == "rename the file or folder"


def test_an_unreadable_file_is_refused(write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("x = 1\n")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SourceError, match="cannot be read") as caught:
        read_source(path)
    assert caught.value.found == "Permission denied"


def test_a_source_that_is_too_large_is_refused_before_it_is_read(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "SOURCE_BYTES_MAX", 10)
    with pytest.raises(SourceError, match="is too large") as caught:
        read_source(write("x = 1234567890\n"))
    assert "at most 10 bytes" in str(caught.value)


class _Editing:
    """Changes the source right after each of the first `times` reads of it."""

    def __init__(self, path: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        real = Path.read_bytes

        def read_then_edit(this: Path) -> bytes:
            content = real(this)
            self.reads += 1
            if self.reads <= times:
                path.write_text(f"x = {'1' * self.reads}\n")
            return content

        monkeypatch.setattr(Path, "read_bytes", read_then_edit)


def test_a_source_that_changes_while_it_is_read_is_read_again(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "READ_PAUSE_S", 0)
    path = write("x = 0\n")
    editing = _Editing(path, 2, monkeypatch)
    assert read_source(path).files == {"ledger.py": b"x = 11\n"}
    assert editing.reads == 3


def test_a_source_that_never_holds_still_is_refused(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "READ_PAUSE_S", 0)
    path = write("x = 0\n")
    _Editing(path, 100, monkeypatch)
    with pytest.raises(SourceError, match="keeps changing"):
        read_source(path)


def test_a_file_that_goes_away_between_listing_and_reading_counts_as_a_change(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "READ_PAUSE_S", 0)
    package = write({"__init__.py": "", "going.py": "x = 1\n"})
    real = Path.read_bytes

    def remove_first(this: Path) -> bytes:
        (package / "going.py").unlink(missing_ok=True)
        return real(this)

    monkeypatch.setattr(Path, "read_bytes", remove_first)
    assert list(read_source(package).files) == ["ledger/__init__.py"]
