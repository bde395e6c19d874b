"""What crosses between two processes, and what is refused by name."""

from __future__ import annotations

import asyncio
import enum
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from replank import Record, Table
from replank.code.loader import Loader
from replank.code.store import VersionStore
from replank.errors import MigrationError, RemoteError, WrongArguments
from replank.isolation.values import (
    Told,
    Uncrossable,
    pack,
    raised,
    tell,
    unpack,
    unpack_in_host,
)
from replank.traffic.gate import Gate
from replank.traffic.handle import Handle
from replank.traffic.messages import Inbox

OWN = """
import dataclasses, enum
from typing import NamedTuple
from replank import Record

class Account(Record):
    owner: str
    parts: list = []

@dataclasses.dataclass
class Part:
    name: str

class Pair(NamedTuple):
    one: int
    two: int

class Kind(enum.Enum):
    OPEN = "open"

class Names(list):
    pass

class Strange:
    pass

class Odd(KeyError):
    pass

class OddStop(StopIteration):
    pass

def function(): ...
"""


class Shared(enum.Enum):
    ONE = 1


class SharedRecord(Record):
    name: str


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> types.ModuleType:
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    version = VersionStore(folder / "versions").put(folder / "own.py")
    return Loader().load(version, "own", 1).module


def test_builtins_and_shared_classes_arrive_as_they_are():
    value = [1, "a", b"b", {"k": (1, 2)}, {3}, None, Shared.ONE, SharedRecord("x"), Path("/a")]
    assert unpack_in_host(pack(value)) == value


def test_objects_of_the_module_arrive_as_plain_data(own: Any):
    account = own.Account("ada", [own.Part("x"), own.Kind.OPEN])
    value = {"a": account, "again": account, "pair": own.Pair(1, 2), "names": own.Names(["n"])}
    arrived = unpack_in_host(pack(value))
    assert arrived["a"] == {"owner": "ada", "parts": [{"name": "x"}, "open"]}
    assert arrived["a"] is arrived["again"]
    assert arrived["pair"] == {"one": 1, "two": 2}
    assert arrived["names"] == ["n"]
    assert unpack_in_host(pack(Table({"a": account}))) == {"a": arrived["a"]}


async def test_what_exists_in_one_process_only_is_refused_by_name(own: Any):
    gate = Gate("other")
    inbox = Inbox(gate, messages_max=1, on_failure=lambda *_: None)
    for value, said in (
        (own.Strange(), "Strange has no plain form"),
        (own.function, "function exists in its module's process only"),
        (own.Account, "Account exists"),
        (threading.Lock(), "cannot pickle"),
        (Handle("other", inbox), "<handle of other> does not leave the host"),
        ((lambda: None), "lambda"),
    ):
        with pytest.raises(Uncrossable, match=said):
            pack([value])


def test_the_host_imports_no_package_for_an_answer(tmp_path: Path, monkeypatch: Any):
    (tmp_path / "replank_far.py").write_text("class Far:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import replank_far  # type: ignore[import-not-found]

    body = pack(replank_far.Far())
    assert type(unpack_in_host(body)).__name__ == "Far"  # the host has imported it itself
    monkeypatch.delitem(sys.modules, "replank_far")
    with pytest.raises(Uncrossable, match=r"replank_far\.Far is not imported in the host"):
        unpack_in_host(body)
    assert type(unpack(body)).__name__ == "Far"
    monkeypatch.delitem(sys.modules, "replank_far")


def told(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        said = unpack(pack(tuple(tell(caught, "own.py:3", "frames"))))
    return raised(Told(*said), "the process of own (pid 7)", unpack_in_host)


def test_an_exception_arrives_as_its_own_type_with_its_traceback_as_a_note(own: Any):
    error = told(ValueError("no"))
    assert (type(error), error.args) == (ValueError, ("no",))
    assert error.__notes__[0].startswith("raised in the process of own (pid 7):\nTraceback")
    ours = told(WrongArguments("what", module="m", found="f", do="d"))
    assert isinstance(ours, WrongArguments)
    assert (ours.module, ours.found, ours.do, ours.location) == ("m", "f", "d", "own.py:3")
    failed = told(MigrationError("what", module="m").at("step 1 -> 2", ("a",), old="1"))
    assert isinstance(failed, MigrationError)
    assert (failed.step, failed.place, failed.old) == ("step 1 -> 2", ("a",), "1")
    assert isinstance(told(asyncio.CancelledError("x")), asyncio.CancelledError)


def test_one_of_a_class_of_the_module_is_caught_by_the_builtin_it_is_of(own: Any):
    error = told(own.Odd("key"))
    assert isinstance(error, RemoteError)
    assert isinstance(error, KeyError)
    assert (error.type_name, error.what, error.location) == ("Odd", "Odd: 'key'", "own.py:3")
    stop = told(own.OddStop())
    assert isinstance(stop, RemoteError)  # which a future takes
    assert not isinstance(stop, StopIteration)
    # nothing that a worker raises ends the host's loop
    assert isinstance(told(SystemExit(3)), RemoteError)
    assert isinstance(told(KeyboardInterrupt()), RemoteError)
