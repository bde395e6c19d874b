import os
import stat

import pytest

from replank.errors import DataDirBusy, StorageError
from replank.journal.lock import DataDirLock, read_owner


def test_a_second_host_is_refused_with_the_owners_pid(tmp_path):
    with DataDirLock(tmp_path / "data"):
        with pytest.raises(DataDirBusy) as caught:
            DataDirLock(tmp_path / "data").acquire()
    assert caught.value.found == f"pid {os.getpid()}"
    assert "--data-dir" in caught.value.do


def test_a_released_directory_can_be_taken_again(tmp_path):
    lock = DataDirLock(tmp_path).acquire()
    assert lock.held
    assert read_owner(tmp_path) == os.getpid()
    lock.release()
    lock.release()
    assert read_owner(tmp_path) is None
    with DataDirLock(tmp_path):
        pass


def test_the_directory_is_made_for_its_owner_only(tmp_path):
    with DataDirLock(tmp_path / "deep" / "data"):
        assert stat.S_IMODE((tmp_path / "deep" / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "deep" / "data" / "lock").stat().st_mode) == 0o600


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "data").touch()
    with pytest.raises(StorageError, match="cannot be used"):
        DataDirLock(tmp_path / "data").acquire()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_hold_the_directory_after_the_host_let_go(tmp_path):
    lock = DataDirLock(tmp_path).acquire()
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock.release()
    try:
        with DataDirLock(tmp_path):
            pass
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for fd in (*ready, *go):
            os.close(fd)
