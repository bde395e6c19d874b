from __future__ import annotations

import dataclasses
import inspect
import itertools
import json
import sys
import textwrap
import types
import typing

import pytest

from replank.definition import CallKind, describe_definition
from replank.errors import DefinitionError, ReplankError
from replank.reading import read_definition

HEAD = """
import asyncio, dataclasses, enum, functools, typing
from typing import Any, ClassVar
import msgspec
from replank.module import Carry, Module, State, Uses, check, every, query, uses
"""

numbers = itertools.count(1)


def load(source: str) -> types.ModuleType:
    """Execute source as a module under a private name, as the loader does."""
    name = f"ledger@{next(numbers)}"
    module = types.ModuleType(name)
    module.__file__ = "/src/ledger.py"
    sys.modules[name] = module
    code = compile(HEAD + textwrap.dedent(source), module.__file__, "exec", dont_inherit=True)
    exec(code, vars(module))
    return module


@pytest.fixture(autouse=True)
def unloaded():
    """Take what a test has loaded out of `sys.modules` again."""
    yield
    for name in [name for name in sys.modules if name.startswith("ledger@")]:
        del sys.modules[name]


def read(source: str):
    return read_definition(load(source), "ledger")


def refused(source: str) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        read(source)
    assert caught.value.module == "ledger"
    return caught.value


LEDGER = '''
class Account(msgspec.Struct):
    owner: str
    cents: int = 0

class Ledger(Module, version="2.0", schema=2):
    """Keeps accounts."""

    accounts: dict[str, Account]
    total_cents: int = 0
    rates: Carry[object | None] = None
    other: Uses = uses("other", ">=1")
    LIMIT: ClassVar[int] = 5
    migrations = []

    async def deposit(self, owner: str, cents: int = 5, *, note: str | None = None) -> int: ...
    @query
    def balance(self, owner: str) -> int: ...
    async def watch(self):
        yield 1
    @every(5)
    async def sweep(self): ...
    @check
    def books(self): ...
    @check(when="pause")
    def late(self): ...
    def on_start(self): ...
    def _private(self): ...
    def migrate_1_2(self, old): ...
'''

TOOLS = '''
"""Some tools."""
STATE = ("hits", "sessions")
VERSION = "3.1"
hits = 0
sessions: dict[str, int] = {}
seen: State[list[str]] = []
other = uses("other")

def add(a: int, b: int = 2) -> int: ...
async def slow(): ...
async def stream():
    yield 1
def _private(): ...
def check_books(): ...
@every(2)
def tick(): ...
def on_start(): ...
def on_stop(): ...
def migrate_1_2(old): ...
def migrate_2_3(old): ...
'''


# -- the class shape ----------------------------------------------------------------------------


def test_a_class_is_read_with_its_label_schema_and_doc():
    ledger = read(LEDGER)
    assert (ledger.name, ledger.label, ledger.shape) == ("ledger", "2.0", "class")
    assert ledger.schema.version == 2
    assert ledger.doc == "Keeps accounts."
    assert ledger.owner.__name__ == "Ledger"


def test_annotated_fields_are_state_and_class_variables_and_uses_are_not():
    ledger = read(LEDGER)
    assert ledger.state_names == ("accounts", "total_cents", "rates")
    assert ledger.carried == ("rates",)
    assert [one.name for one in ledger.schema.fields] == ["accounts", "total_cents"]


def test_public_methods_are_calls_of_their_kind():
    ledger = read(LEDGER)
    kinds = {name: call.kind for name, call in ledger.calls.items()}
    assert kinds == {
        "deposit": CallKind.ASYNC,
        "balance": CallKind.SYNC,
        "watch": CallKind.STREAM,
    }
    assert [name for name, call in ledger.calls.items() if call.query] == ["balance"]


def test_the_signature_of_a_call_has_no_self():
    deposit = read(LEDGER).calls["deposit"]
    assert list(deposit.signature.parameters) == ["owner", "cents", "note"]
    assert deposit.hints["note"] == str | None
    assert deposit.hints["return"] is int


def test_checks_timers_uses_and_hooks_are_sorted_out():
    ledger = read(LEDGER)
    assert {one.name: one.when for one in ledger.checks} == {"books": "both", "late": "pause"}
    assert [(one.name, one.period_s) for one in ledger.timers] == [("sweep", 5.0)]
    (use,) = ledger.uses
    assert (use.field, use.module, use.versions, use.interface) == ("other", "other", ">=1", None)
    assert set(ledger.functions) == {"migrate_1_2", "on_start"}


def test_an_interface_of_a_use_is_kept_and_a_bare_use_is_named_by_its_field():
    one = read(
        """
        class Api(typing.Protocol): ...
        class A(Module):
            typed: Uses[Api] = uses("ledger2")
            bare: Uses
        """
    )
    uses = {use.field: use for use in one.uses}
    assert uses["typed"].interface.__name__ == "Api"
    assert uses["bare"].module == "bare"


def test_a_use_that_names_the_used_modules_own_class_asks_for_none_of_its_calls():
    one = read(
        """
        Ledger = type("Ledger", (Module,), {"__module__": "ledger", "deposit": lambda self: 1})
        class A(Module):
            book: Uses[Ledger] = uses("book")
        """
    )
    (use,) = one.uses
    assert (use.module, use.interface) == ("book", None)


def test_a_use_needs_no_annotation():
    one = read("""class A(Module):\n    prices = uses("prices", ">=1")""")
    (use,) = one.uses
    assert (use.field, use.module, use.versions, use.interface) == ("prices", "prices", ">=1", None)


def test_a_constructed_module_has_defaults_of_its_own():
    pymodule = load(LEDGER)
    ledger = read_definition(pymodule, "ledger")
    first, second = ledger.construct(pymodule), ledger.construct(pymodule)
    assert first.accounts == {}
    assert first.accounts is not second.accounts
    assert first.total_cents == 0
    assert first.rates is None


def test_mutable_defaults_are_not_shared_between_instances():
    pymodule = load(
        """
        class A(Module):
            plain: list[int] = [1]
            made: list[int] = dataclasses.field(default_factory=lambda: [2])
            maybe: int | None
        """
    )
    one = read_definition(pymodule, "a")
    first, second = one.construct(pymodule), one.construct(pymodule)
    first.plain.append(5)
    first.made.append(5)
    assert (second.plain, second.made, second.maybe) == ([1], [2], None)


def test_the_constructor_sees_the_defaults_and_may_change_them():
    pymodule = load(
        """
        class A(Module):
            n: int = 1
            def __init__(self):
                self.n += 1
        """
    )
    assert read_definition(pymodule, "a").construct(pymodule).n == 2


def test_static_and_class_methods_keep_their_parameters():
    one = read(
        """
        class A(Module):
            @staticmethod
            def add(a: int, b: int): ...
            @classmethod
            def make(cls, c: int): ...
            def plain(self, d: int): ...
        """
    )
    found = {name: list(call.signature.parameters) for name, call in one.calls.items()}
    assert found == {"add": ["a", "b"], "make": ["c"], "plain": ["d"]}


def test_a_decorated_call_keeps_its_signature_and_kind():
    one = read(
        """
        def timed(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                return function(*args, **kwargs)
            return wrapper

        class A(Module):
            @timed
            async def slow(self, a: int): ...
        """
    )
    assert one.calls["slow"].kind is CallKind.ASYNC
    assert list(one.calls["slow"].signature.parameters) == ["a"]


def test_inherited_calls_and_state_belong_to_the_module_and_its_base_is_none():
    one = read(
        """
        class Base(Module):
            hits: int = 0
            def hit(self): ...
        class A(Base, version="1"):
            misses: int = 0
        """
    )
    assert one.owner.__name__ == "A"
    assert set(one.hints) == {"hits", "misses"}
    assert set(one.calls) == {"hit"}


def test_an_abstract_base_does_not_count():
    one = read(
        """
        class Base(Module):
            abstract = True
        class A(Module):
            pass
        """
    )
    assert one.owner.__name__ == "A"


def test_type_hints_of_a_module_are_those_that_typing_finds():
    pymodule = load(LEDGER)
    ledger = read_definition(pymodule, "ledger")
    hints = typing.get_type_hints(ledger.owner)
    assert {key: hints[key] for key in ledger.hints} == ledger.hints
    deposit = typing.get_type_hints(ledger.calls["deposit"].function)
    assert deposit == ledger.calls["deposit"].hints


def test_annotations_of_a_call_that_cannot_be_read_are_left_out():
    one = read(
        """
        class A(Module):
            def call(self, a: "Missing"): ...
        """
    )
    assert one.calls["call"].hints == {}


# -- the file shape -----------------------------------------------------------------------------


def test_a_plain_file_is_read_with_its_label_schema_and_doc():
    tools = read(TOOLS.removeprefix("\n"))
    assert (tools.shape, tools.label, tools.owner) == ("file", "3.1", None)
    assert tools.schema.version == 3  # the highest that a migration leads to


def test_public_functions_are_calls_and_named_variables_are_state():
    tools = read(TOOLS)
    kinds = {name: call.kind for name, call in tools.calls.items()}
    assert kinds == {"add": CallKind.SYNC, "slow": CallKind.ASYNC, "stream": CallKind.STREAM}
    assert set(tools.state_names) == {"hits", "sessions", "seen"}
    assert tools.hints["hits"] is int
    assert tools.hints["seen"] == list[str]
    assert list(tools.calls["add"].signature.parameters) == ["a", "b"]


def test_checks_timers_uses_and_migrations_of_a_plain_file_are_found_by_name():
    tools = read(TOOLS)
    assert [(one.name, one.when) for one in tools.checks] == [("check_books", "both")]
    assert [one.name for one in tools.timers] == ["tick"]
    assert [one.module for one in tools.uses] == ["other"]
    assert set(tools.functions) == {"migrate_1_2", "migrate_2_3", "on_start", "on_stop"}


def test_the_object_of_a_plain_file_is_the_file_itself():
    pymodule = load(TOOLS)
    assert read_definition(pymodule, "tools").construct(pymodule) is pymodule


def test_imported_functions_are_no_calls_and_wrapped_ones_are():
    one = read(
        """
        from textwrap import dedent
        @functools.lru_cache
        def cached(a: int): ...
        """
    )
    assert list(one.calls) == ["cached"]
    assert list(one.calls["cached"].signature.parameters) == ["a"]


def test_a_declared_schema_number_counts():
    assert read("SCHEMA = 7\ndef f(): ...").schema.version == 7


def test_an_existing_file_without_anything_of_ours_is_a_module():
    one = read("def f(a): return a")
    assert (one.label, one.schema.version, one.uses, one.state_names) == ("0", 1, (), ())


# -- what is refused ----------------------------------------------------------------------------


def test_a_file_that_holds_nothing_is_refused():
    error = refused("x = 1")
    assert error.what == "the file holds no module"
    assert error.location == "ledger.py:1"
    assert error.do


def test_a_file_that_holds_two_modules_is_refused_by_their_names():
    error = refused("class A(Module): ...\nclass B(Module): ...")
    assert error.found == "class A, class B"


@pytest.mark.parametrize("value", ["5", '"hits"', "(1, 2)", "None", "{'hits': 1}"])
def test_a_state_that_is_no_tuple_of_names_is_refused(value):
    error = refused(f"STATE = {value}\nhits = 0\ndef f(): ...")
    assert error.what == "STATE must be a tuple of names"


def test_a_state_that_names_what_is_not_there_is_refused():
    assert "'gone'" in refused('STATE = ("gone",)\ndef f(): ...').what


@pytest.mark.parametrize("value", ["0", "True", "'2'", "1.5"])
def test_a_bad_schema_number_is_refused(value):
    assert refused(f"SCHEMA = {value}\ndef f(): ...").found
    with pytest.raises(DefinitionError):
        load(f"class A(Module, schema={value}): ...")


@pytest.mark.parametrize("value", ["5", "None", "'add'", "{}"])
def test_migrations_that_are_no_list_are_refused(value):
    assert "must be a list" in refused(f"class A(Module):\n    migrations = {value}").what
    assert "must be a list" in refused(f"MIGRATIONS = {value}\ndef f(): ...").what


@pytest.mark.parametrize("body", ["a: 'Missing'", "a: 'list[Missing]' = 1", "a: 'int['"])
def test_annotations_that_cannot_be_read_are_refused(body):
    error = refused(f"class A(Module):\n    {body}")
    assert error.found.startswith(("NameError", "SyntaxError"))
    assert error.do


def test_annotations_of_a_plain_file_that_cannot_be_read_are_refused():
    assert "Missing" in refused("a: 'Missing' = 1\ndef f(): ...").found


def test_a_module_that_uses_itself_is_refused():
    assert (
        "uses the module itself" in refused("class A(Module):\n    me: Uses = uses('ledger')").what
    )


@pytest.mark.parametrize("name", ["send", "blocking"])
def test_a_call_named_like_a_part_of_the_handle_is_refused(name):
    for source in (f"class A(Module):\n    def {name}(self): ...", f"def {name}(): ..."):
        error = refused(source)
        assert name in error.what
        assert error.do


@pytest.mark.parametrize(
    "body", ["host: str = 'x'", "spawn: int = 1", "def spawn(self): ...", "host = 5"]
)
def test_what_would_hide_the_runtimes_own_names_is_refused(body):
    assert "the runtime's own name" in refused(f"class A(Module):\n    {body}").what


@pytest.mark.parametrize("period", ["0", "-1", "True", "'5'", "None"])
def test_a_bad_period_is_refused(period):
    with pytest.raises(DefinitionError):
        load(f"class A(Module):\n    @every({period})\n    def f(self): ...")


def test_a_bad_word_for_when_is_refused():
    with pytest.raises(DefinitionError):
        load("class A(Module):\n    @check(when='never')\n    def f(self): ...")


def test_every_refusal_is_an_error_of_ours_that_names_the_module():
    for source in ("x = 1", "STATE = 5\ndef f(): ...", "class A(Module):\n    migrations = 3"):
        error = refused(source)
        assert isinstance(error, ReplankError)
        assert str(error).startswith("ledger: ")


# -- the description ----------------------------------------------------------------------------


@pytest.mark.parametrize("source", [LEDGER, TOOLS])
def test_the_description_is_json_and_the_same_for_every_generation(source):
    first, second = describe_definition(read(source)), describe_definition(read(source))
    assert first == second
    assert json.dumps(first) == json.dumps(second)
    assert "@" not in json.dumps(first)


def test_the_description_tells_parameters_as_text():
    deposit = describe_definition(read(LEDGER))["calls"]["deposit"]
    assert deposit["kind"] == "async"
    assert deposit["returns"] == "int"
    assert [one["name"] for one in deposit["parameters"]] == ["owner", "cents", "note"]
    assert [one["required"] for one in deposit["parameters"]] == [True, False, False]
    assert deposit["parameters"][1]["default"] == "5"
    assert deposit["parameters"][2]["type"] == "str | None"
    assert deposit["parameters"][2]["kind"] == "keyword_only"


def test_own_types_are_named_without_the_private_module_name():
    one = read(
        """
        class Item(msgspec.Struct):
            a: int
        class A(Module):
            def call(self, one: Item, many: list[Item], maybe: typing.Optional[Item]): ...
        """
    )
    parameters = describe_definition(one)["calls"]["call"]["parameters"]
    assert [parameter["type"] for parameter in parameters] == [
        "Item",
        "list[Item]",
        "Optional[Item]",
    ]


def test_a_definition_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read("def f(): ...").name = "other"


def test_a_signature_can_be_bound_as_handles_do():
    signature = read(LEDGER).calls["deposit"].signature
    assert isinstance(signature, inspect.Signature)
    signature.bind("ada", 5, note="x")
    with pytest.raises(TypeError):
        signature.bind()


def test_an_annotated_use_of_a_plain_file_is_one_use():
    one = read("other: Uses = uses('ledger2')\ndef f(): ...")
    assert [use.module for use in one.uses] == ["ledger2"]
    assert one.state_names == ()
