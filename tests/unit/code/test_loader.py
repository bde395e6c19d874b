"""Generations live side by side under private names, fail without trace and leave nothing."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import json
import linecache
import logging
import os
import pickle
import sys
import threading
import traceback
import tracemalloc
import typing
import weakref
from logging.handlers import MemoryHandler

import pytest

from replank.code import loader as loader_module
from replank.code.loader import Loader
from replank.errors import DefinitionError, SourceError, StoreError

PACKAGE = {
    "__init__.py": """
        import ledger
        import ledger.helpers
        import ledger.helpers as aliased
        import importlib
        import importlib.resources as resources
        import logging
        import pkgutil
        from importlib import import_module
        from importlib.resources import files
        from ledger import helpers as from_own
        from ledger.helpers import *
        from ledger.helpers import rate
        from . import helpers as relative
        from .helpers import rate as relative_rate

        VERSION = "{v}"

        def lazy():
            from ledger import late
            import ledger.late2
            return late.VALUE, ledger.late2.VALUE

        def by_name(name):
            return import_module(name), importlib.import_module(name)

        def texts():
            read = [
                files("ledger").joinpath("data/hello.txt").read_text(),
                files(__package__).joinpath("data/hello.txt").read_text(),
                resources.files(ledger).joinpath("data/hello.txt").read_text(),
                importlib.resources.files("ledger").joinpath("data/hello.txt").read_text(),
                pkgutil.get_data("ledger", "data/hello.txt").decode(),
                pkgutil.get_data(__name__, "data/hello.txt").decode(),
            ]
            return set(read)
        """,
    "helpers.py": """
        from ledger import deep
        __all__ = ["rate", "starred"]
        def rate(): return "{v}"
        def starred(): return "{v}"
        """,
    "deep/__init__.py": "from ..parts.inner import VALUE\n",
    "parts/inner.py": "VALUE = '{v}'\n",
    "late.py": "VALUE = 'late {v}'\n",
    "late2.py": "VALUE = 'late2 {v}'\n",
    "data/hello.txt": "hello {v}",
}


def package(version: str) -> dict[str, str]:
    return {path: text.replace("{v}", version) for path, text in PACKAGE.items()}


def test_two_versions_of_a_package_live_side_by_side(load) -> None:
    one, two = load(package("1")).module, load(package("2")).module
    for module, v in ((one, "1"), (two, "2")):
        assert v == module.VERSION
        assert module.rate() == module.relative_rate() == module.starred() == v
        assert module.helpers is module.aliased is module.from_own is module.relative
        assert module.ledger is module
        assert v == module.helpers.deep.VALUE


def test_the_public_name_never_appears(load) -> None:
    loaded = load(package("1"))
    assert loaded.private_name == "ledger@1"
    assert sys.modules["ledger@1"] is loaded.module
    assert "ledger@1.helpers" in sys.modules
    loaded.module.lazy()
    assert not [name for name in sys.modules if name == "ledger" or name.startswith("ledger.")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ledger")


def test_lazy_imports_reach_their_own_version_long_after_the_load(load) -> None:
    one, two = load(package("1")).module, load(package("2")).module
    assert two.lazy() == ("late 2", "late2 2")
    assert one.lazy() == ("late 1", "late2 1")


def test_import_module_by_name_reaches_the_own_version(load) -> None:
    one, two = load(package("1")).module, load(package("2")).module
    assert {found.rate() for found in one.by_name("ledger.helpers")} == {"1"}
    assert {found.rate() for found in two.by_name("ledger.helpers")} == {"2"}
    assert one.by_name("json") == (json, json)


def test_resources_are_those_of_the_own_version(load) -> None:
    one, two = load(package("1")).module, load(package("2")).module
    assert one.texts() == {"hello 1"}
    assert two.texts() == {"hello 2"}


def test_a_single_file_may_import_itself(load) -> None:
    module = load(
        "import ledger\nimport importlib\nme = importlib.import_module('ledger')\n"
    ).module
    assert module.ledger is module.me is module


def test_the_real_modules_are_not_touched_and_look_the_same_from_inside(load) -> None:
    before = importlib.import_module, logging.getLogger
    module = load(
        """
        import importlib, importlib.util, logging
        from importlib import *
        import logging.handlers
        spec = importlib.util.find_spec("ledger")
        none = importlib.util.find_spec("ledger_no_such")
        handler = logging.handlers.MemoryHandler
        level = logging.INFO
        listed = "import_module" in dir(importlib)
        """
    ).module
    assert (importlib.import_module, logging.getLogger) == before
    assert module.spec is module.__spec__
    assert module.none is None
    assert module.level == logging.INFO
    assert module.listed
    assert isinstance(module.importlib, type(sys))
    assert module.handler is MemoryHandler


def test_loggers_are_named_as_the_author_names_them(load) -> None:
    text = "import logging\nlog = logging.getLogger(__name__)\nroot = logging.getLogger()\n"
    one, two = load(text).module, load(text + "x = 1\n").module
    assert one.log is two.log is logging.getLogger("ledger")
    assert one.root is logging.getLogger()


def test_tracebacks_and_getsource_show_the_own_version(load) -> None:
    text = "def fail():\n    raise ValueError('{v}')  # line of {v}\n"
    one, two = load(text.replace("{v}", "one")).module, load(text.replace("{v}", "two")).module
    for module, v in ((one, "one"), (two, "two")):
        assert f"# line of {v}" in inspect.getsource(module.fail)
        assert f"# line of {v}" in inspect.getsource(module)
        with pytest.raises(ValueError, match=v) as caught:
            module.fail()
        assert f"# line of {v}" in "".join(traceback.format_exception(caught.value))


TYPES = """
    from __future__ import annotations
    import dataclasses, enum, typing, collections
    import msgspec

    class Colour(enum.Enum):
        RED = 1

    class Account(msgspec.Struct):
        owner: str
        colour: Colour = Colour.RED
        parent: Account | None = None

    @dataclasses.dataclass
    class Entry:
        account: Account
        tags: list[Entry]

    class Pair(typing.NamedTuple):
        left: Account
        right: typing.Optional[Account]

    def convert(text):
        return msgspec.json.decode(text, type=Account)
    """


def test_annotations_dataclasses_enums_and_structs_belong_to_their_version(load) -> None:
    one, two = load(TYPES).module, load(TYPES + "\n    x = 1\n").module
    for module in (one, two):
        assert typing.get_type_hints(module.Entry)["account"] is module.Account
        assert typing.get_type_hints(module.Pair)["left"] is module.Account
        account = module.convert('{"owner": "ada", "parent": {"owner": "bob"}}')
        assert type(account.parent) is module.Account
        assert account.colour is module.Colour.RED
    assert one.Account is not two.Account
    entry = two.Entry(two.Account("ada"), [])
    assert type(pickle.loads(pickle.dumps(entry))) is two.Entry


def test_runtime_names_are_found_as_if_they_were_builtins(load) -> None:
    marker = object()
    files = {"__init__.py": "from .a import get\n", "a.py": "def get(): return __replank_x__\n"}
    assert load(files, runtime_names={"__replank_x__": marker}).module.get() is marker
    with pytest.raises(NameError):
        load(files).module.get()


def test_a_same_size_edit_within_one_second_runs_the_new_code(load) -> None:
    assert load("rate = 1\n").module.rate == 1
    assert load("rate = 2\n").module.rate == 2


def test_no_bytecode_is_written_into_the_store(load) -> None:
    loaded = load(package("1"))
    assert not list(loaded.version.root.rglob("__pycache__"))


def test_two_hosts_of_one_process_may_have_the_same_module_and_number(load, stored) -> None:
    first = load("x = 1\n")
    second = Loader().load(stored("x = 2\n"), "ledger", 1)
    assert first.private_name != second.private_name
    assert (first.module.x, second.module.x) == (1, 2)
    second.unload()
    assert sys.modules[first.private_name] is first.module


def test_a_hosts_name_with_a_dot_does_not_make_a_sub_module(stored) -> None:
    loaded = Loader().load(stored("import ledger\n"), "shop.ledger", 3)
    assert loaded.private_name == "shop_ledger@3"
    assert loaded.module.ledger is loaded.module
    loaded.unload()


FAILURES = {
    "raises": ("x = 1\n\nraise ValueError('no rate')\n", "ledger.py:3", "ValueError: no rate"),
    "nested": ("def f():\n    return {}['k']\n\nf()\n", "ledger.py:2", "KeyError: 'k'"),
    "library": ("import json\njson.loads('{')\n", "ledger.py:2", "JSONDecodeError"),
    "syntax": ("x = 1\ndef f(:\n    pass\n", "ledger.py:2", "SyntaxError"),
    "late syntax": ("x = 1\nreturn 3\n", "ledger.py:2", "'return' outside function"),
    "nul": ("x = 1\ny = '\0'\n", "ledger.py:2", "null bytes"),
    "exit": ("import sys\nsys.exit('bye')\n", "ledger.py:2", "SystemExit: bye"),
    "interrupt": ("raise KeyboardInterrupt\n", "ledger.py:1", "KeyboardInterrupt"),
    "generator exit": ("raise GeneratorExit\n", "ledger.py:1", "GeneratorExit"),
    "import": ("import no_such_thing_here\n", "ledger.py:1", "no_such_thing_here"),
    "own part": ("import ledger.part\n", "ledger.py:1", "No module named 'ledger.part'"),
    "cause": (
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('outer') from e\n",
        "ledger.py:4",
        "ValueError: outer",
    ),
    "unspeakable": (
        "class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E\n",
        "ledger.py:4",
        "E",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_names_the_authors_line_and_leaves_nothing(load, case: str) -> None:
    text, location, found = FAILURES[case]
    before = set(sys.modules)
    with pytest.raises(SourceError) as caught:
        load(text)
    error = caught.value
    assert error.location == location
    assert found in (error.found or "")
    assert error.module == "ledger"
    assert error.do
    assert error.__context__ is None
    assert not [name for name in set(sys.modules) - before if name.startswith("ledger")]
    assert not loader_module._finder.trees


def test_a_failure_in_a_part_removes_the_whole_package(load) -> None:
    files = {
        "__init__.py": "import ledger.good\nimport ledger.bad\n",
        "good.py": "x = 1\n",
        "bad.py": "import ledger.good\n\ndef f():\n    raise OSError('gone')\nf()\n",
    }
    with pytest.raises(SourceError) as caught:
        load(files)
    assert caught.value.location == "ledger/bad.py:4"
    assert not [name for name in sys.modules if name.startswith("ledger@")]


def test_the_candidates_traceback_shows_only_its_own_frames_and_the_authors_paths(
    load, tmp_path
) -> None:
    text = "import json\n\ndef parse():\n    return json.loads('{')  # here\n\nRATES = parse()\n"
    with pytest.raises(SourceError) as caught:
        load(text)
    trace = caught.value.candidate_traceback
    assert f'File "{tmp_path}/src/ledger.py", line 6' in trace
    assert f'File "{tmp_path}/src/ledger.py", line 4, in parse' in trace
    assert "return json.loads('{')  # here" in trace
    assert "decoder.py" not in trace
    assert "importlib" not in trace
    assert "versions" not in trace
    assert "ledger@" not in trace


def test_an_error_of_our_own_decorators_keeps_its_class_and_gains_the_line(load) -> None:
    text = "from replank.module import every\n\n@every(0)\nasync def sweep(): ...\n"
    with pytest.raises(DefinitionError, match="more than 0") as caught:
        load(text)
    assert caught.value.location == "ledger.py:3"
    assert caught.value.module == "ledger"
    assert caught.value.__traceback__ is not None  # pytest's own raise; the candidate's is cleared
    assert caught.value.__context__ is None


def test_a_good_version_loads_after_a_bad_one(load) -> None:
    with pytest.raises(SourceError):
        load("raise ValueError\n")
    assert load("x = 1\n").module.x == 1


def test_a_failing_candidate_does_not_touch_the_generation_that_serves(load) -> None:
    good = load(package("1")).module
    with pytest.raises(SourceError):
        load(
            {**package("2"), "late.py": "raise ValueError\n", "helpers.py": "from . import late\n"}
        )
    assert sys.modules["ledger@1"] is good
    assert good.lazy() == ("late 1", "late2 1")


def test_a_version_gone_from_the_store_is_no_fault_of_the_author(stored) -> None:
    version = stored("x = 1\n")
    (version.root / "ledger.py").unlink()
    with pytest.raises(StoreError, match="is gone"):
        Loader().load(version, "ledger", 1)
    assert not loader_module._finder.trees


def test_unload_leaves_no_name_behind(load) -> None:
    loaded = load(package("1"))
    module, root = loaded.module, str(loaded.version.root)
    module.lazy()
    inspect.getsource(module.rate)
    linecache.getline(module.__file__, 1)
    loaded.unload()
    assert not [name for name in sys.modules if name.startswith("ledger@")]
    assert not [path for path in linecache.cache if path.startswith(root)]
    assert not [path for path in sys.path_importer_cache if path.startswith(root)]
    assert not [file for file in inspect.modulesbyfile if file.startswith(root)]
    assert module.rate() == "1"
    loaded.unload()


def test_what_is_left_of_an_unloaded_generation_cannot_import_more_of_itself(load) -> None:
    loaded = load(package("1"))
    module = loaded.module
    loaded.unload()
    with pytest.raises(ModuleNotFoundError):
        module.lazy()


def test_unloading_one_generation_leaves_another_of_the_same_version_alone(load) -> None:
    one, two = load(package("1")), load(package("1"))
    one.unload()
    assert two.module.lazy() == ("late 1", "late2 1")
    assert "return" in inspect.getsource(two.module.lazy)


LEAVES = {
    "__init__.py": """
        from __future__ import annotations
        import dataclasses, enum, functools, logging, typing, weakref
        import msgspec
        from replank.module import Module
        from ledger.record import Account
        from ledger import record as part
        log = logging.getLogger(__name__)
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Entry:
            account: typing.Optional[Account]
            other: typing.Union[Account, Colour, None] = None
        class Ledger(Module, version="1"):
            entries: list = dataclasses.field(default_factory=list)
            async def deposit(self, cents: int) -> int:
                return cents
            @functools.lru_cache
            def cached(self, n): return n
        typing.get_type_hints(Entry)
        class Never: ...
        hint = typing.Dict[str, typing.Optional[Account]]
        """,
    "record.py": """
        import msgspec
        class Account(msgspec.Struct, weakref=True):
            owner: str
        msgspec.json.decode(b'{"owner": "ada"}', type=Account)
        """,
}


def _memory_after_full_collection() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_500_rounds_of_load_and_unload_leave_no_class_no_namespace_and_no_memory(stored) -> None:
    version = stored(LEAVES)
    code = None
    alive: list[weakref.ref] = []
    loader = Loader()

    def one_round(generation: int) -> None:
        nonlocal code
        loaded = loader.load(version, "ledger", generation, code=code)
        code = code or loaded.compiled()
        module = loaded.module
        assert asyncio.run(module.Ledger().deposit(3)) == 3 if generation % 100 == 0 else True
        things = (module, module.part, module.Ledger, module.Account, module.Entry, module.Colour)
        alive.extend(weakref.ref(thing) for thing in things)
        # Its frame's globals are the module's dict; the function dies only with it.
        alive.append(weakref.ref(module.Ledger.deposit))
        loaded.unload()

    loggers = len(logging.Logger.manager.loggerDict)
    for generation in range(1, 101):
        one_round(generation)
    gc.collect()
    tracemalloc.start()
    try:
        one_round(101)
        before = _memory_after_full_collection()
        names = len(sys.modules)
        for generation in range(102, 501):
            one_round(generation)
            if generation % 50 == 0:
                gc.collect()
        grown = _memory_after_full_collection() - before
    finally:
        tracemalloc.stop()
    assert len(alive) == 500 * 7
    assert [ref() for ref in alive if ref() is not None] == []
    assert len(sys.modules) == names
    assert len(logging.Logger.manager.loggerDict) <= loggers + 1
    # The weak references themselves are counted: 399 rounds of 7 at some 80 bytes each.
    assert grown < 600_000, f"{grown / 399:.0f} bytes a round"


def test_code_from_the_probe_is_used_instead_of_compiling(
    load, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(package("1"))
    assert first.compile_rest() == ()
    code = first.compiled()

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("compiled although code was given")

    monkeypatch.setattr(loader_module, "compile_source", refuse)
    second = load(package("1"), code=code)
    assert second.module.lazy() == ("late 1", "late2 1")
    assert second.module.rate is not first.module.rate
    assert "VERSION" in inspect.getsource(second.module)


@pytest.mark.parametrize("code", [b"", b"garbage", None])
def test_code_that_does_not_fit_is_ignored(load, code: bytes | None) -> None:
    assert load("x = 1\n", code=code).module.x == 1
    other = load("x = 2\n").compiled()
    assert load("x = 3\n", code=other).module.x == 3


def test_files_that_nothing_imported_are_compiled_ahead_and_doubtful_ones_named(load) -> None:
    files = {"__init__.py": "", "fine.py": "x = 1\n", "old.py": "print 'two'\n", "a.txt": "text"}
    loaded = load(files)
    (doubt,) = loaded.compile_rest()
    assert doubt.startswith("ledger/old.py:1 does not compile: Missing parentheses")
    assert loaded.compile_rest(bytes_max=0) == ()


def test_imports_from_other_threads_while_loading_do_not_mix(load, stored) -> None:
    versions = [(v, stored(package(str(v)))) for v in range(6)]
    found: dict[int, str] = {}
    together = threading.Barrier(len(versions))

    def run(number: int, version) -> None:
        together.wait()
        loaded = Loader().load(version, "shop", 100 + number)
        found[number] = loaded.module.rate() + loaded.module.lazy()[0]
        loaded.unload()

    threads = [threading.Thread(target=run, args=pair) for pair in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {v: f"{v}late {v}" for v, _ in versions}


def test_code_with_a_declared_encoding_is_read_in_it(write, store) -> None:
    path = write("x = 1\n")
    path.write_bytes("# coding: latin-1\nname = 'é'\n".encode("latin-1"))
    loaded = Loader().load(store.put(path), "ledger", 1)
    assert loaded.module.name == "é"
    loaded.unload()


def test_the_process_environment_is_left_alone(load) -> None:
    before = dict(os.environ), list(sys.path)
    load(package("1"))
    assert (dict(os.environ), list(sys.path)) == before
    assert sys.meta_path.count(loader_module._finder) == 1
