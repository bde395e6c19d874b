from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

import pytest

from replank.errors import MigrationError
from replank.plain import SCALAR_TYPES, Opaque, copy_tree, digest
from replank.state.names import Namespace
from replank.state.tree import Trees, freeze, thaw
from replank.table import Table
from tests.state_helpers import hints_of, load

SHOP = """
class Color(enum.Enum):
    RED = 1
    GREEN = 2

class Mode(enum.Flag):
    READ = 1
    WRITE = 2

class Account(Record):
    owner: str
    cents: int = 0
    color: Color = Color.RED
    tags: list[str] = []

class Node(Record):
    name: str
    peer: Node | None = None
    others: list[Node] = []

class Strict(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    peer: Strict | None = None

@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: float = 0.0

@dataclass
class Basket:
    owner: Account
    items: dict[str, int]
    total: int = 0
    def __post_init__(self):
        self.total += 100

class Pair(NamedTuple):
    left: int
    right: str = "r"

class Options(TypedDict):
    name: str
    size: NotRequired[int]

class Book:
    __slots__ = ("title", "__pages", "__dict__")
    def __init__(self, title):
        self.title = title
        self.__pages = [1, 2]
        self.me = self
    def pages(self):
        return self.__pages

class Names(dict):
    pass

class Shout(str):
    pass

class Counted(msgspec.Struct):
    n: int
    made: ClassVar[int] = 0
    def __post_init__(self):
        type(self).made += 1

def on_call(): return "called"
"""


def trees(source: str = SHOP, **fields: str) -> tuple[Any, Trees]:
    module = load(source)
    return module, Trees(hints_of(module, **fields), Namespace(module.__name__))


def move(value_text: str, hint: str = "Any", source: str = SHOP) -> tuple[Any, Any, Any]:
    """Build a value in one generation and move it to the next: value, tree, new value."""
    module, old = trees(source, value=hint)
    new_module, new = trees(source, value=hint)
    value = eval(value_text, module.__dict__)
    tree = old.freeze({"value": value})
    assert_class_free(tree)
    return new_module, tree["value"], new.thaw(tree)["value"]


def assert_class_free(node: Any, seen: set[int] | None = None) -> None:
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    assert "@" not in type(node).__module__
    if isinstance(node, dict):
        for key, part in node.items():
            assert_class_free(key, seen)
            assert_class_free(part, seen)
    elif isinstance(node, list | tuple | set | frozenset | deque):
        for part in node:
            assert_class_free(part, seen)
    else:
        assert type(node) in SCALAR_TYPES or type(node) in (bytearray, Opaque, type)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Account('ada', 5, Color.GREEN, ['x'])", "Account"),
        ("Account('ada', 5, Color.GREEN, ['x'])", "Any"),
        ("Account('ada')", "Account | None"),
        ("Table({'a': Account('a')})", "Table[str, Account]"),
        ("Point(1, 2.5)", "Point"),
        ("Point(1, 2.5)", "Point | Account"),
        ("[Account('a'), Point(1)]", "list[Point | Account]"),
        ("Pair(1)", "Pair"),
        ("[Pair(1)]", "Any"),
        ("Strict(name='a', peer=Strict(name='b'))", "Strict"),
        ("{'name': 'a', 'size': 3}", "Options"),
        ("{Color.RED: 1}", "dict[Color, int]"),
        ("{Color.RED: {Color.GREEN}}", "Any"),
        ("{Point(1): 'a'}", "dict[Point, str]"),
        ("{Point(1): 'a'}", "Any"),
        ("{Point(1), Point(2)}", "set[Point]"),
        ("{(1, Color.RED): 2}", "dict[tuple[int, Color], int]"),
        ("{frozenset({Color.RED})}", "set[frozenset[Color]]"),
        ("Mode.READ | Mode.WRITE", "Mode"),
        ("[Mode.READ | Mode.WRITE]", "Any"),
        ("Color.RED", "Color | str"),
        ("'RED'", "Color | str"),
        ("(1, Color.RED)", "tuple[int, Color]"),
        ("[Color.RED, Color.GREEN]", "list[Color]"),
        ("Color.GREEN", "Literal[Color.GREEN, 'x']"),
        ("deque([Account('a')], maxlen=3)", "deque[Account]"),
        ("frozenset({Color.RED})", "frozenset[Color]"),
    ],
)
def test_a_value_arrives_on_the_new_classes(text, hint):
    module, _, moved = move(text, hint)
    expected = eval(text, module.__dict__)
    assert moved == expected
    assert type(moved) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        {"$type": "mine"},
        {"a": {"$type": "$map", "pairs": 1}},
        ("$enum", "x", "y"),
        {("$tuple", 1): ("$code", "f")},
        [("$", 1)],
        {"$": 1},
        OrderedDict([("b", 1), ("a", 2)]),
        Counter("abca"),
        defaultdict(list, {"a": [1]}),
        deque([1, 2], maxlen=2),
        bytearray(b"x"),
        {1: {2: {3.5: b"x"}}},
        {(): frozenset()},
    ],
)
def test_untyped_data_is_the_same_after_the_move(value):
    again = thaw(freeze(value))
    assert again == value
    assert type(again) is type(value)
    if isinstance(value, defaultdict):
        assert again.default_factory is list
    if isinstance(value, deque):
        assert again.maxlen == 2


def test_nothing_is_shared_with_the_live_state():
    live = {"a": [1, {2}, bytearray(b"x")]}
    moved = thaw(freeze(live))
    assert moved == live
    assert all(a is not b for a, b in zip(moved["a"][1:], live["a"][1:], strict=True))


def test_aliases_across_fields_stay_one_object():
    module, old = trees(
        accounts="Table[str, Account]", last="Account | None", seen="Any", other="list"
    )
    account = module.Account("ada")
    tree = old.freeze(
        {"accounts": Table(ada=account), "last": account, "seen": [account], "other": [account]}
    )
    _, new = trees(accounts="Table[str, Account]", last="Account | None", seen="Any", other="list")
    for order in (list(tree), list(reversed(tree))):
        moved = new.thaw({name: tree[name] for name in order})
        assert moved["accounts"]["ada"] is moved["last"] is moved["seen"][0] is moved["other"][0]


@pytest.mark.parametrize("hint", ["Node", "Any"])
def test_cycles_through_records_survive(hint):
    module, old = trees(n=hint)
    a, b = module.Node("a"), module.Node("b")
    a.peer, b.peer, a.others = b, a, [a, b]
    new_module, new = trees(n=hint)
    moved = new.thaw(old.freeze({"n": a}))["n"]
    assert type(moved) is new_module.Node
    assert moved.peer.peer is moved
    assert moved.others[0] is moved
    assert moved.others[1] is moved.peer


def test_a_cycle_through_a_frozen_struct_survives():
    import msgspec

    module, old = trees(s="Strict")
    strict = module.Strict(name="a")
    msgspec.structs.force_setattr(strict, "peer", strict)
    _, new = trees(s="Strict")
    moved = new.thaw(old.freeze({"s": strict}))["s"]
    assert moved.peer is moved
    assert moved.name == "a"


def test_cycles_through_plain_containers_survive():
    items: list[Any] = []
    pair = (items, {"self": items})
    items.append(pair)
    moved = thaw(freeze(items))
    assert moved[0][0] is moved
    assert moved[0][1]["self"] is moved


def test_a_set_of_objects_keeps_their_identity():
    module, old = trees(g="Any", first="Any")
    book = module.Book("x")
    _, new = trees(g="Any", first="Any")
    moved = new.thaw(old.freeze({"g": {book: {book}}, "first": book}))
    assert next(iter(moved["g"])) is moved["first"]
    assert moved["g"][moved["first"]] == {moved["first"]}


def test_an_object_without_a_schema_is_moved_attribute_by_attribute():
    module, _, moved = move("Book('t')")
    assert type(moved) is module.Book
    assert (moved.title, moved.pages()) == ("t", [1, 2])
    assert moved.me is moved


def test_own_subclasses_of_builtins_are_moved():
    module, _, names = move("Names(a=1)")
    assert type(names) is module.Names
    assert names == {"a": 1}
    module, _, shout = move("Shout('hi')")
    assert type(shout) is module.Shout
    assert shout == "hi"


def test_own_functions_and_classes_are_found_by_name():
    module, _, moved = move("{'f': on_call, 'c': Account, 'm': Book('x').pages}")
    assert moved["f"] is module.on_call
    assert moved["c"] is module.Account
    assert moved["m"]() == [1, 2]


def test_a_lambda_of_the_old_code_is_refused():
    module, old = trees(f="Any")
    with pytest.raises(MigrationError, match="function of the old code"):
        old.freeze({"f": eval("lambda: 1", module.__dict__)})


def test_a_default_factory_that_is_a_lambda_comes_from_the_type():
    _, _, moved = move("defaultdict(lambda: [], {'a': [1]})", "defaultdict[str, list[int]]")
    assert moved["new"] == []


def test_foreign_objects_are_carried_by_identity():
    lock = threading.Lock()
    node = freeze({"lock": lock})
    assert isinstance(node["lock"], Opaque)
    assert thaw(node)["lock"] is lock


def test_an_own_class_on_a_foreign_base_is_refused():
    module, old = trees("class Worker(threading.Thread): pass", w="Any")
    with pytest.raises(MigrationError, match="Thread keeps state"):
        old.freeze({"w": module.Worker()})


def test_a_class_that_is_gone_is_named():
    module, old = trees(v="Any")
    _, new = trees("", v="Any")
    with pytest.raises(MigrationError, match="Book, which does not exist"):
        new.thaw(old.freeze({"v": module.Book("x")}))


def test_a_layout_that_does_not_agree_is_refused():
    module, old = trees("class P:\n  __slots__ = ('a', 'b')", p="P")
    _, new = trees("class P:\n  __slots__ = ('a',)", p="P")
    value = module.P()
    value.a, value.b = 1, 2
    with pytest.raises(MigrationError, match="cannot be moved") as caught:
        new.thaw(old.freeze({"p": value}))
    assert "'b'" in caught.value.found


def test_a_plain_object_may_become_a_record():
    module, old = trees("class P:\n  def __init__(self): self.a = 1", p="Any")
    new_module, new = trees("class P(Record):\n  a: int\n  b: int = 7", p="Any")
    moved = new.thaw(old.freeze({"p": module.P()}))["p"]
    assert moved == new_module.P(1, 7)


def test_a_missing_field_takes_its_default_anew_each_time():
    _, new = trees(a="list[Account]")
    one, two = new.thaw({"a": [{"owner": "x"}, {"owner": "y"}]})["a"]
    assert (one.cents, one.tags) == (0, [])
    assert one.tags is not two.tags


def test_construction_does_not_run_post_init_again():
    module, _, basket = move("Basket(Account('a'), {'x': 1})", "Basket")
    assert basket.total == 100
    module, _, moved = move("[Counted(1), Counted(2), Counted(3)]", "list[Counted]")
    assert [one.n for one in moved] == [1, 2, 3]
    assert module.Counted.made == 1  # the template


def test_an_open_window_of_a_table_makes_no_difference():
    class Open(Table):
        pass

    module, old = trees(t="Table[str, Account]")
    tree = old.freeze({"t": Open(a=module.Account("a"))})
    assert tree == {"t": {"a": {"owner": "a", "cents": 0, "color": "RED", "tags": []}}}


@pytest.mark.parametrize(
    ("hint", "node", "path", "expected"),
    [
        ("int", "x", "value", "int"),
        ("Table[str, Account]", {"ada": {"owner": "a", "cents": "5"}}, "value['ada'].cents", "int"),
        ("Table[str, Account]", {"ada": {"owner": None}}, "value['ada'].owner", "str"),
        ("Table[str, Account]", {"ada": {"cents": 1}}, "value['ada'].owner", "str"),
        (
            "Table[str, Account]",
            {"ada": {"owner": "a", "x": 1}},
            "value['ada'].x",
            "only fields of Account",
        ),
        ("Table[int, Account]", {"ada": {"owner": "a"}}, "value['ada']", "int"),
        ("list[int]", [1, 2, None], "value[2]", "int"),
        ("tuple[int, str]", (1, 2), "value[1]", "str"),
        ("tuple[int, str]", (1,), "value", "tuple[int, str]"),
        ("Color", "BLUE", "value", "a member of Color (RED, GREEN)"),
        ("Mode", 64, "value", "a combination of Mode"),
        ("Literal['a']", "b", "value", "Literal['a']"),
        ("int | None", "b", "value", "int | None"),
        ("Account", 3, "value", "Account"),
        ("Options", {"size": 1}, "value.", "the key 'name'"),
        ("set[int]", {"a"}, "value[item]", "int"),
        ("deque[int]", 5, "value", "collections.deque[int]"),
        ("Annotated[int, msgspec.Meta(ge=0)]", -1, "value", "int"),
        (
            "Node",
            {"name": "a", "peer": {"name": "b", "peer": {"name": 3}}},
            "value.peer.peer.name",
            "str",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_path(hint, node, path, expected):
    _, new = trees(value=hint)
    with pytest.raises(MigrationError) as caught:
        new.thaw({"value": node})
    assert f" at {path}" in caught.value.what
    assert expected in (caught.value.expected or "")


def test_a_wrong_type_in_the_live_state_is_found_when_it_is_rebuilt():
    module, old = trees(a="Account")
    account = module.Account("ada", None)
    with pytest.raises(MigrationError, match=r"a\.cents") as caught:
        old.thaw(old.freeze({"a": account}))
    assert caught.value.found == "None (NoneType)"


def test_an_enum_in_a_text_field_is_moved_as_what_it_is():
    source = "class Kind(enum.StrEnum):\n  A = 'a'\nclass R(Record):\n  kind: str"
    module, _, moved = move("R(Kind.A)", "R", source)
    assert moved.kind is module.Kind.A


def test_int_fits_float_and_bool_fits_int():
    assert thaw(1, float) == 1
    assert thaw(True, int) is True


def test_too_deep_a_chain_is_a_clear_error():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(MigrationError, match="nested too deeply"):
        freeze(deep)
    with pytest.raises(MigrationError, match="nested too deeply"):
        copy_tree(deep)
    with pytest.raises(MigrationError, match="nested too deeply"):
        digest(deep)
    with pytest.raises(MigrationError, match="nested too deeply"):
        thaw(deep)
    while deep:  # freed without recursion
        deep = deep.pop()


def test_a_property_made_on_the_fly_never_aliases_another():
    source = """
@dataclass
class P:
    n: int
    items: list[int]
def get(self): return [self.n]
def put(self, value): pass
P.items = property(get, put)
"""
    module, old = trees(source, ps="list[P]")
    tree = old.freeze({"ps": [module.P(n, []) for n in range(50)]})
    assert [node["items"] for node in tree["ps"]] == [[n] for n in range(50)]


def test_a_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": {1, 2, 3}}) == digest({"a": {3, 2, 1}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": True}),
        ([1, 2], [2, 1]),
        ([1], (1,)),
        ({"a": {}}, {"a": []}),
        ({"a": {"b": [{}]}}, {"a": {"b": [[]]}}),
        ({"ab": {"c": {}}}, {"a": {"bc": {}}}),
        (b"a", "a"),
    ],
)
def test_different_trees_have_different_digests(one, other):
    assert digest({"x": one}) != digest({"x": other})


def test_a_digest_sees_values_and_not_sharing():
    part = [1]
    assert digest([part, part]) == digest([[1], [1]])


def test_a_digest_of_a_cycle_does_not_depend_on_where_it_was_entered_before():
    ring: list[Any] = [1]
    ring.append(ring)
    other: list[Any] = [1]
    other.append(other)
    assert digest({"a": ring, "b": ring}) == digest({"b": other, "a": ring})


def test_a_copied_tree_keeps_aliases_and_cycles():
    node: dict[str, Any] = {"a": [1], "t": ()}
    node["t"] = ([node], {2}, deque([node], maxlen=4), OrderedDict(x=node))
    node["again"] = node["a"]
    new = copy_tree(node)
    assert new is not node
    assert new["again"] is new["a"]
    assert new["t"][0][0] is new["t"][2][0] is new["t"][3]["x"] is new
    assert new["t"][2].maxlen == 4
