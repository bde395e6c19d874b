"""Entries behave as their methods do, and are made only where that is certain."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import traceback
from time import perf_counter

import pytest

from replank.code import loader as loader_module
from replank.code.entries import ENTRY_PREFIX, add_entries, collect_entries, generic_entry
from replank.traffic.beat import last_beat
from replank.traffic.calls import chain_var, find_blockers, outside_chain
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane, LaneState
from replank.traffic.leaf import LeafPass


class StubPass:
    def __init__(self, lane: StubLane) -> None:
        self.lane = lane

    def leave(self) -> None:
        self.lane.in_flight -= 1
        self.lane.left += 1


class StubLane:
    """Counts as a lane does."""

    def __init__(self) -> None:
        self.open, self.quick = True, False  # every call is told to it
        self.calls = self.in_flight = self.left = 0
        self.nested = False
        self.first = self  # it stands for a chain too
        self.touched: list[object] = []
        self.detours: list[tuple] = []

    def enter(self, call: str) -> StubPass | None:
        self.calls += 1
        if self.nested:
            return None
        self.in_flight += 1
        return StubPass(self)

    async def detour(self, call: str, args: tuple, kwargs: dict):
        self.detours.append((call, args, kwargs))
        return "detoured"

    def touch(self, lane: object) -> None:
        self.touched.append(lane)


@pytest.fixture
def lane() -> StubLane:
    return StubLane()


@pytest.fixture
def module(load, lane):
    """Load source text whose runtime names are the stub lane's."""

    def load_text(content):
        chain = lambda: lane if lane.nested else None  # noqa: E731
        names = {"__replank_lane__": lane, "__replank_chain__": chain}
        return load(content, runtime_names=names).module

    return load_text


METHODS = '''
    import asyncio
    from replank.module import Module, query
    made = []
    def default():
        made.append(1)
        return []
    class Base:
        async def ask(self, n): return n
    class Ledger(Module, Base, version="1"):
        __secret = 7
        async def atomic(self, a, b=2):
            """Say it."""
            return a, b
        def plain(self, a): return a * 2
        async def suspending(self, a):
            await asyncio.sleep(0)
            return a
        async def seen(self): return __replank_lane__.in_flight
        async def seen_waiting(self):
            await asyncio.sleep(0)
            return __replank_lane__.in_flight
        async def every_kind(self, a, /, b, *rest, c, d=default(), **more):
            return a, b, rest, c, d, more
        @query
        async def asked(self): return self.__secret
        async def ask(self, n): return await super().ask(n) + 1
        async def fails(self): raise ValueError(
            "here")
        async def fails_waiting(self):
            await asyncio.sleep(0)
            raise ValueError("there")
        async def comprehends(self): return [one async for one in self.stream()]
        async def inner(self):
            async def nested():
                await asyncio.sleep(0)
            return nested
        async def only_doc(self):
            """Nothing else."""
        async def annotated(self, a: list[made.append(2)] = None) -> int: return 1
        async def stream(self):
            yield 1
    '''


def entries(module, *names: str):
    return collect_entries(module.Ledger, names)


async def test_an_atomic_call_counts_and_runs_the_body(module, lane: StubLane) -> None:
    made = module(METHODS)
    entry = entries(made, "atomic")["atomic"]
    assert await entry(made.Ledger(), 1) == (1, 2)
    assert await entry(made.Ledger(), b=5, a=4) == (4, 5)
    assert (lane.calls, lane.left) == (2, 0)


async def test_a_plain_def_becomes_an_entry_that_is_awaited(module, lane: StubLane) -> None:
    made = module(METHODS)
    assert await entries(made, "plain")["plain"](made.Ledger(), 4) == 8
    assert made.Ledger().plain(4) == 8
    assert lane.calls == 1


async def test_a_suspending_call_is_in_flight_until_it_ends(module, lane: StubLane) -> None:
    made = module(METHODS)
    taken = entries(made, "seen_waiting", "seen", "suspending")
    assert await taken["seen_waiting"](made.Ledger()) == 1
    assert await taken["seen"](made.Ledger()) == 0
    assert (lane.in_flight, lane.left) == (0, 1)


@pytest.fixture(params=["with chains", "with a count"])
def real_lane(request) -> Lane:
    lane = Lane(Gate("ledger"), 1)
    lane.open, lane.state = True, LaneState.OPEN
    lane.leaf = LeafPass(lane) if request.param == "with a count" else None
    return lane


@pytest.fixture
def waiting(load, real_lane):
    """Make calls in a real lane that wait until they are let go."""
    text = """
        from replank.module import Module
        class Ledger(Module):
            async def wait(self, go): await go.wait()
        """
    names = {"__replank_lane__": real_lane, "__replank_chain__": chain_var.get}
    made = load(text, runtime_names=names).module
    entry, target = entries(made, "wait")["wait"], made.Ledger()

    def begin(go: asyncio.Event) -> asyncio.Task:
        return asyncio.create_task(entry(target, go), context=outside_chain())

    return begin


async def test_a_call_that_entered_while_nobody_looked_tells_who_waits_for_it_now(
    real_lane: Lane, waiting
) -> None:
    go, told = asyncio.Event(), []
    calls = [waiting(go), waiting(go)]
    await asyncio.sleep(0)
    assert (real_lane.quick, real_lane.in_flight, real_lane.calls) == (True, 2, 2)
    real_lane.on_empty = lambda: told.append(real_lane.in_flight)
    go.set()
    await asyncio.gather(*calls)
    assert (real_lane.quick, real_lane.in_flight, told) == (False, 0, [0])


async def test_a_call_that_entered_while_somebody_looked_leaves_when_nobody_does(
    real_lane: Lane, waiting
) -> None:
    go = asyncio.Event()
    real_lane.timed = True
    calls = [waiting(go)]
    await asyncio.sleep(0)
    real_lane.timed = False
    calls.append(waiting(go))
    await asyncio.sleep(0)
    assert (real_lane.quick, real_lane.in_flight, real_lane.calls) == (True, 2, 2)
    go.set()
    await asyncio.gather(*calls)
    assert (real_lane.in_flight, real_lane.gate.longest_call_s) == (0, 0.0)


async def test_what_blocks_a_drain_is_named_with_its_age_and_line(
    real_lane: Lane, waiting, monkeypatch
) -> None:
    go = asyncio.Event()
    monkeypatch.setattr(last_beat, "at", perf_counter() - 5)
    call = waiting(go)
    await asyncio.sleep(0)
    (blocker,) = find_blockers([real_lane], since=perf_counter())
    assert 5 <= blocker.age_s < 6
    assert (blocker.call, blocker.task) == ("wait", call)
    assert blocker.stack[0].endswith("in wait")
    go.set()
    await call


async def test_a_wrapped_call_that_blocks_a_drain_is_named_with_its_age(
    real_lane: Lane, monkeypatch
) -> None:
    real_lane.leaf = LeafPass(real_lane)
    go = asyncio.Event()
    monkeypatch.setattr(last_beat, "at", perf_counter() - 5)
    entry = generic_entry(real_lane, "wait", go.wait, is_async=True)
    call = asyncio.create_task(entry(), context=outside_chain())
    await asyncio.sleep(0)
    (blocker,) = find_blockers([real_lane], since=perf_counter())
    assert 5 <= blocker.age_s < 6
    go.set()
    await call


async def test_a_call_that_went_through_two_lanes_quickly_leaves_both(load) -> None:
    lanes = [Lane(Gate("outer"), 1), Lane(Gate("inner"), 2)]
    text = """
        import asyncio
        from replank.module import Module
        class Ledger(Module):
            async def run(self, inner=None):
                if inner is not None:
                    await inner()
                await asyncio.sleep(0)
        """
    made = []
    for lane in lanes:
        lane.open, lane.state = True, LaneState.OPEN
        names = {"__replank_lane__": lane, "__replank_chain__": chain_var.get}
        module = load(text, runtime_names=names).module
        made.append(functools.partial(entries(module, "run")["run"], module.Ledger()))
    outer, inner = made
    call = asyncio.create_task(outer(inner), context=outside_chain())
    await asyncio.sleep(0)
    assert [lane.in_flight for lane in lanes] == [1, 1]
    assert lanes[0].chains == lanes[1].chains
    await call
    assert [lane.in_flight for lane in lanes] == [0, 0]


async def test_a_suspending_call_leaves_when_it_raises(module, lane: StubLane) -> None:
    made = module(METHODS)
    with pytest.raises(ValueError, match="there"):
        await entries(made, "fails_waiting")["fails_waiting"](made.Ledger())
    assert (lane.in_flight, lane.left) == (0, 1)


async def test_a_suspending_call_leaves_when_it_is_closed(module, lane: StubLane) -> None:
    made = module(METHODS)
    running = entries(made, "suspending")["suspending"](made.Ledger(), 1)
    running.send(None)
    assert lane.in_flight == 1
    running.close()
    assert lane.in_flight == 0


async def test_calls_in_a_live_chain_touch_the_lane_and_hold_no_pass(
    module, lane: StubLane
) -> None:
    made = module(METHODS)
    taken = entries(made, "atomic", "suspending")
    lane.nested = True
    await taken["atomic"](made.Ledger(), 1)
    assert lane.touched == [lane]
    await taken["suspending"](made.Ledger(), 1)
    assert (lane.calls, lane.left) == (2, 0)


@pytest.mark.parametrize(
    ("call", "args", "kwargs", "forwarded"),
    [
        ("atomic", (1,), {}, ((1, 2), {})),
        ("atomic", (), {"b": 3, "a": 1}, ((1, 3), {})),
        ("suspending", (1,), {}, ((1,), {})),
        ("plain", (1,), {}, ((1,), {})),
        ("asked", (), {}, ((), {})),
        ("every_kind", (1, 2), {"c": 3}, ((1, 2), {"c": 3, "d": []})),
        (
            "every_kind",
            (1, 2, 3, 4),
            {"c": 5, "d": 6, "e": 7},
            ((1, 2, 3, 4), {"c": 5, "d": 6, "e": 7}),
        ),
    ],
)
async def test_a_call_that_finds_the_gate_closed_takes_the_detour_with_its_arguments(
    module, lane: StubLane, *, call: str, args: tuple, kwargs: dict, forwarded: tuple
) -> None:
    made = module(METHODS)
    lane.open = False
    entry = entries(made, call)[call]
    assert await entry(made.Ledger(), *args, **kwargs) == "detoured"
    assert lane.detours == [(call, *forwarded)]
    assert lane.calls == 0


async def test_every_kind_of_parameter_arrives(module) -> None:
    made = module(METHODS)
    entry = entries(made, "every_kind")["every_kind"]
    got = await entry(made.Ledger(), 1, 2, 3, c=4, e=5)
    assert got == (1, 2, (3,), 4, [], {"e": 5})
    assert inspect.signature(entry) == inspect.signature(made.Ledger.every_kind)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'c'"):
        await entry(made.Ledger(), 1, 2)


async def test_defaults_and_annotations_are_evaluated_once_and_shared(module) -> None:
    made = module(METHODS)
    assert made.made == [1, 2]
    taken = entries(made, "every_kind", "annotated")
    original = made.Ledger.every_kind
    assert taken["every_kind"].__kwdefaults__["d"] is original.__kwdefaults__["d"]
    assert taken["annotated"].__annotations__ == made.Ledger.annotated.__annotations__


async def test_super_name_mangling_and_marks_work(module) -> None:
    made = module(METHODS)
    taken = entries(made, "ask", "asked")
    assert await taken["ask"](made.Ledger(), 1) == 2
    assert await taken["asked"](made.Ledger()) == 7


async def test_a_def_that_returns_a_coroutine_is_awaited_and_in_flight_meanwhile(
    module, lane: StubLane
) -> None:
    made = module(
        """
    from replank.module import Module
    class Ledger(Module):
        __hidden = 5
        async def _later(self): return __replank_lane__.in_flight
        def direct(self): return self._later()
        def chosen(self, now):
            if now:
                return self.__hidden
            def nested(): return self._later()
            got = nested()
            return got
        def fails(self):
            return (1 /
                0)
        def calls_what_fails(self):
            return self.fails()
    """
    )
    taken = collect_entries(made.Ledger, ["direct", "chosen", "calls_what_fails"])
    assert await taken["direct"](made.Ledger()) == 1
    assert await taken["chosen"](made.Ledger(), now=False) == 1
    assert (lane.calls, lane.left, lane.in_flight) == (2, 2, 0)
    assert await taken["chosen"](made.Ledger(), now=True) == 5
    assert (lane.calls, lane.left) == (3, 2)
    with pytest.raises(ZeroDivisionError) as caught:
        await taken["calls_what_fails"](made.Ledger())
    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)[1:]]
    assert lines == ["return self.fails()", "return (1 /"]


async def test_tracebacks_name_the_method_and_its_own_lines(module) -> None:
    made = module(METHODS)
    entry = entries(made, "fails")["fails"]
    with pytest.raises(ValueError, match="here") as caught:
        await entry(made.Ledger())
    with pytest.raises(ValueError, match="here") as original:
        await made.Ledger().fails()
    last, same = (traceback.extract_tb(one.value.__traceback__)[-1] for one in (caught, original))
    assert (last.name, last.lineno, last.line) == (same.name, same.lineno, same.line)
    assert last.name == "fails"


async def test_the_docstring_and_the_name_are_kept(module) -> None:
    made = module(METHODS)
    taken = entries(made, "atomic", "only_doc")
    assert taken["atomic"].__doc__ == "Say it."
    assert taken["atomic"].__qualname__ == "Ledger.atomic"
    assert await taken["only_doc"](made.Ledger()) is None
    assert "def atomic" in inspect.getsource(taken["atomic"])


async def test_an_async_comprehension_suspends_and_a_nested_function_does_not(
    module, lane: StubLane
) -> None:
    made = module(METHODS)
    taken = entries(made, "comprehends", "inner")
    assert await taken["comprehends"](made.Ledger()) == [1]
    assert lane.left == 1
    await (await taken["inner"](made.Ledger()))()
    assert lane.left == 1


def test_collecting_leaves_the_class_as_its_author_wrote_it(module) -> None:
    made = module(METHODS)
    assert any(name.startswith(ENTRY_PREFIX) for name in vars(made.Ledger))
    collect_entries(made.Ledger, ["atomic"])
    assert not [name for name in vars(made.Ledger) if name.startswith(ENTRY_PREFIX)]
    assert collect_entries(made.Ledger, ["atomic"]) == {}


NOT_MADE = {
    "generator": "def m(self):\n            yield 1",
    "async generator": "async def m(self):\n            yield 1",
    "static": "@staticmethod\n        def m(): return 1",
    "class method": "@classmethod\n        def m(cls): return 1",
    "decorated": "@wrap\n        def m(self): return 1",
    "called mark": "@query()\n        def m(self): return 1",
    "check": "@check\n        def m(self): return 1",
    "timer": "@every(5)\n        def m(self): return 1",
    "locals": "def m(self): return locals()",
    "eval": "def m(self): return eval('1')",
    "no self": "def m(*args): return 1",
    "replaced": "def m(self): return 1\n        m = wrap(m)",
    "assigned": "def m(self): return 1\n        m = 3",
    "redefined in a branch": "def m(self): return 1\n        if wrap:\n            def m(self): return 2",
    "property": "@property\n        def m(self): return 1",
    "lambda": "m = lambda self: 1",
}


@pytest.mark.parametrize("case", NOT_MADE)
def test_what_is_not_certain_to_behave_the_same_is_left_to_the_wrapper(module, case: str) -> None:
    made = module(
        f"""
    from replank.module import Module, check, every
    import functools
    def query(f=None): return f or (lambda g: g)
    def wrap(f):
        @functools.wraps(f)
        def wrapped(*args): return f(*args)
        return wrapped
    class Ledger(Module):
        {NOT_MADE[case]}
    """
    )
    assert collect_entries(made.Ledger, ["m"]) == {}


def test_the_last_of_two_methods_of_one_name_is_the_one(module) -> None:
    made = module(
        """
    from replank.module import Module
    class Ledger(Module):
        def m(self): return 1
        def m(self): return 2
    """
    )
    running = collect_entries(made.Ledger, ["m"])["m"](made.Ledger())
    with pytest.raises(StopIteration) as caught:
        running.send(None)
    assert caught.value.value == 2


async def test_inherited_calls_of_module_classes_have_entries_and_overridden_ones_do_not_leak(
    module,
) -> None:
    made = module(
        """
    from replank.module import Module as Unit
    import replank.module
    class Base(Unit):
        abstract = True
        async def both(self): return "base"
        async def inherited(self): return "inherited"
    class Ledger(Base):
        async def both(self): return "own"
    """
    )
    taken = collect_entries(made.Ledger, ["both", "inherited"])
    assert await taken["both"](made.Ledger()) == "own"
    assert await taken["inherited"](made.Ledger()) == "inherited"
    assert not [name for name in vars(made.Base) if name.startswith(ENTRY_PREFIX)]


async def test_a_plain_file_has_entries_for_its_public_functions(module, lane: StubLane) -> None:
    made = module(
        """
    hits = 0
    def hit(n: int = 1) -> int:
        global hits
        hits += n
        return hits
    async def slow():
        import asyncio
        await asyncio.sleep(0)
    def _private(): ...
    def check_it(): ...
    def migrate_1_2(old): ...
    async def on_start(): ...
    """
    )
    taken = collect_entries(made, ["hit", "slow", "check_it", "on_start"])
    assert sorted(taken) == ["hit", "slow"]
    assert await taken["hit"](3) == 3
    assert await taken["hit"]() == 4
    await taken["slow"]()
    assert (made.hits, lane.calls, lane.left) == (4, 3, 1)
    assert not [name for name in vars(made) if name.startswith(ENTRY_PREFIX)]


def test_functions_beside_a_module_class_have_none(module) -> None:
    made = module(
        "from replank.module import Module\nclass Ledger(Module): ...\ndef helper(): ...\n"
    )
    assert collect_entries(made, ["helper"]) == {}


async def test_functions_have_entries_in_the_entry_file_of_a_package_only(module) -> None:
    made = module(
        {"__init__.py": "from .part import part\ndef own(): ...\n", "part.py": "def part(): ...\n"}
    )
    assert list(collect_entries(made, ["own", "part"])) == ["own"]
    assert not [name for name in made.part.__globals__ if ENTRY_PREFIX in name]


def test_a_mistake_in_the_instrumentation_never_breaks_loading(
    module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(tree: ast.Module, *, functions: bool) -> int:
        tree.body.insert(0, ast.Return())
        return 1

    monkeypatch.setattr(loader_module, "add_entries", spoil)
    made = module(METHODS)
    assert made.Ledger().plain(2) == 4
    assert entries(made, "plain") == {}


def test_entries_are_made_for_every_source_of_the_standard_library_we_try() -> None:
    for source in (ast, inspect, traceback):
        tree = ast.parse(inspect.getsource(source))
        assert add_entries(tree, functions=True) > 5
        compile(tree, "x.py", "exec")


async def test_the_generic_entry_counts_and_detours(lane: StubLane) -> None:
    async def double(n: int) -> int:
        assert lane.in_flight == 1
        return n * 2

    entry = generic_entry(lane, "double", double, is_async=True)
    assert await entry(4) == 8
    lane.open = False
    assert await entry(4, k=1) == "detoured"
    assert lane.detours == [("double", (4,), {"k": 1})]
    assert (lane.calls, lane.left) == (1, 1)


async def test_the_generic_entry_of_a_sync_call_awaits_what_a_decorator_hid(
    lane: StubLane,
) -> None:
    async def double(n: int) -> int:
        return n * 2

    def hidden(n: int):
        return double(n)

    assert await generic_entry(lane, "double", hidden, is_async=False)(4) == 8
    assert await generic_entry(lane, "plain", lambda n: n, is_async=False)(4) == 4
    lane.nested = True
    assert await generic_entry(lane, "plain", lambda n: n, is_async=False)(4) == 4
    lane.open = False
    assert await generic_entry(lane, "plain", lambda n: n, is_async=False)(4) == "detoured"
    assert (lane.calls, lane.left) == (3, 1)


async def test_the_generic_entry_leaves_when_the_call_raises(lane: StubLane) -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await generic_entry(lane, "fail", fail, is_async=False)()
    assert lane.in_flight == 0
