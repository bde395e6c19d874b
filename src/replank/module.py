"""What an author writes: a module class with annotated state, calls, checks and timers."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, TypeVar, overload

from replank.errors import DefinitionError, UsageError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

When = Literal["both", "rehearsal", "pause"]
OnReload = Literal["finish", "resume", "end"]


if TYPE_CHECKING:
    # To a checker the marks are not there: `Carry[X]` is X, and `Uses[LedgerApi]` has its calls.
    from typing_extensions import TypeVar as _TypeVar

    _Marked = _TypeVar("_Marked", default=Any)
    Carry = Annotated[_Marked, "carry"]
    State = Annotated[_Marked, "state"]
    Uses = Annotated[_Marked, "uses"]
else:

    class Carry(Generic[T]):
        """Mark state handed over as it is, never serialised: `feed: Carry[Feed | None] = None`."""

    class State(Generic[T]):
        """Mark a module-level variable of a plain file as state: `hits: State[int] = 0`."""

    class Uses(Generic[T]):
        """Mark a field that the host fills with another module's handle."""


class UsesMark:
    """What `uses(...)` leaves in the class until the host wires the handle.

    Args:
        module: Name of the used module.
        versions: Version range in the notation of Python packaging, or "" for any.
    """

    __slots__ = ("module", "versions")

    def __init__(self, module: str, versions: str = "") -> None:
        self.module = module
        self.versions = versions

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UsageError(
            f"the handle of {self.module!r} is not wired yet",
            do="use it in calls or on_start, not at import or in the constructor",
        )


def uses(module: str, versions: str = "") -> Any:
    """Declare that this module calls another one through its handle.

    Args:
        module: Name of the module in the host.
        versions: Accepted versions, such as ">=1.4,<3"; empty for any.

    Returns:
        A mark that the host replaces by the handle before the module serves.
    """
    return UsesMark(module, versions)


def query(function: F) -> F:
    """Promise that a call does not write: it may be replayed."""
    function.__replank_query__ = True  # type: ignore[attr-defined]
    return function


def every(seconds: float) -> Callable[[F], F]:
    """Run a method each so many seconds; it stops in Drain and goes on in the new version.

    Args:
        seconds: Time between two starts, in seconds; more than 0.

    Raises:
        DefinitionError: The period is not a positive number.
    """
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds <= 0:
        raise DefinitionError(
            "the period of @every must be more than 0 seconds", found=repr(seconds)
        )

    def mark(function: F) -> F:
        function.__replank_every__ = float(seconds)  # type: ignore[attr-defined]
        return function

    return mark


@overload
def check(function: F, /) -> F: ...
@overload
def check(*, when: When = "both") -> Callable[[F], F]: ...
def check(function: Any = None, /, *, when: When = "both") -> Any:
    """Mark a probe: it raises, or returns False, when the module or its state is not well.

    Args:
        function: The method.
        when: "rehearsal" runs it only on the rehearsed copy, before any call waits (for checks
            that walk a large state); "pause" only while calls wait, after `on_start` (for checks
            of what `on_start` opened); "both" is the default.

    Raises:
        DefinitionError: `when` is none of the three words.
    """

    def mark(target: F) -> F:
        if when not in ("both", "rehearsal", "pause"):
            raise DefinitionError(
                "@check(when=...) takes 'both', 'rehearsal' or 'pause'", found=repr(when)
            )
        target.__replank_check__ = when  # type: ignore[attr-defined]
        return target

    return mark if function is None else mark(function)


def stream(*, on_reload: OnReload = "finish") -> Callable[[F], F]:
    """Say what becomes of an open stream, a call that yields items, when its module is reloaded.

    No stream blocks a reload; it is at rest between two items.

    Args:
        on_reload: "finish" lets it end in the version it began in, which reads on and may not
            write; "resume" goes on in the new version, whose method of that name is called with
            the same arguments and `resume=` the last item that was read; "end" ends it with the
            error `StreamEnded`.

    Raises:
        DefinitionError: `on_reload` is none of the three words.
    """
    if on_reload not in ("finish", "resume", "end"):
        raise DefinitionError(
            "@stream(on_reload=...) takes 'finish', 'resume' or 'end'", found=repr(on_reload)
        )

    def mark(function: F) -> F:
        function.__replank_on_reload__ = on_reload  # type: ignore[attr-defined]
        return function

    return mark


def invariant(function: F) -> F:
    """Mark a method whose answer a reload must not change: `sum` of all balances, say.

    It looks at the state alone, changes nothing and is no coroutine. Both versions are asked at
    the same instant: the one that serves about its state, the candidate about the migrated copy.
    An invariant that only one of them has is not compared.

    Args:
        function: The method; what it returns is compared by value, floats to nine digits.
    """
    function.__replank_invariant__ = True  # type: ignore[attr-defined]
    return function


class Runtime:
    """What the host lends to a live module: its own host, its name, and owned tasks."""

    __slots__ = ("host", "name", "spawn")

    def __init__(
        self,
        name: str,
        host: Any,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
    ) -> None:
        self.name = name
        self.host = host
        self.spawn = spawn


current_runtime: contextvars.ContextVar[Runtime | None] = contextvars.ContextVar(
    "replank_runtime", default=None
)
"""The runtime of a plain file's call: a class finds its own on the instance."""


class Module:
    """Be the unit of reload: annotated fields are state, public methods are calls.

    Class keywords:
        version: The author's label, free text; used by version ranges when it is a version.
        schema: Number of the state's shape; raise it when the shape changes.

    The host constructs the class without arguments, after every field has its default, and
    assigns the migrated state afterwards. `on_start` runs in Restore, on the event loop, before
    any call enters; what it raises rolls the reload back. `on_stop` runs when the generation has
    been retired; what it raises is reported, never fatal.
    """

    __replank_label__: ClassVar[str] = "0"
    __replank_schema__: ClassVar[int] = 1
    migrations: ClassVar[Any] = ()

    _replank_runtime: Runtime

    def __init_subclass__(
        cls, *, version: str | None = None, schema: int | None = None, **kwargs: Any
    ) -> None:
        """Note the author's version label and schema number."""
        super().__init_subclass__(**kwargs)
        if version is not None:
            cls.__replank_label__ = str(version)
        if schema is not None:
            if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
                raise DefinitionError(
                    f"class {cls.__name__}: schema must be a whole number from 1",
                    found=repr(schema),
                )
            cls.__replank_schema__ = schema

    @property
    def host(self) -> Any:
        """The host that runs this module; use it to ask for reloads.

        Raises:
            UsageError: The module does not run in a host (yet).
        """
        return self._runtime().host

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that the runtime owns.

        It is stopped with its generation. When it runs one of the module's own methods
        (`self.spawn(self.pump())`), the new version's method of that name goes on in its place.

        Args:
            coroutine: What to run.

        Raises:
            UsageError: The module does not run in a host (yet).
        """
        return self._runtime().spawn(coroutine)

    def on_start(self) -> Awaitable[None] | None:
        """Open what the state cannot hold; called in Restore, before any call enters."""
        return None

    def on_stop(self) -> Awaitable[None] | None:
        """Close what `on_start` opened; called when the generation is retired."""
        return None

    def _runtime(self) -> Runtime:
        runtime = self.__dict__.get("_replank_runtime")
        if runtime is None:
            raise UsageError(
                f"{type(self).__name__} does not run in a host yet",
                do="use self.host and self.spawn in calls or on_start",
            )
        return runtime  # type: ignore[no-any-return]


__all__ = [
    "Carry",
    "Module",
    "OnReload",
    "Runtime",
    "State",
    "Uses",
    "UsesMark",
    "When",
    "check",
    "current_runtime",
    "every",
    "invariant",
    "query",
    "stream",
    "uses",
]
