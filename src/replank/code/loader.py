"""Load versions side by side, each under a private name that only its own code can see.

A generation of the module `ledger` stands in `sys.modules` as `ledger@7`, its parts as
`ledger@7.helpers`; the public name `ledger` never appears there, so a candidate is never published
and a failing one removes nothing. Two things make the code believe that it is called `ledger`:

- a finder on `sys.meta_path` that knows the private roots, and
- a builtins dict for each generation with its own `__import__` (see `namespace.py`).

What is compiled is the stored source, or code that the probe compiled from that same source.
Cached bytecode is never read or written: it is keyed by whole seconds and would serve old code.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import itertools
import marshal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

import msgspec

from replank.code.caches import forget_caches, modules_below
from replank.code.entries import ENTRY_NAMES, add_entries
from replank.code.helpers import is_helper
from replank.code.namespace import own_builtins
from replank.code.store import Version
from replank.code.trace import explain
from replank.errors import InternalError, ReplankError, StoreError
from replank.syntax import parse_module
from replank.verification.effects import Effects

_CODE_MAGIC: Final = importlib.util.MAGIC_NUMBER.hex()


class CompiledVersion(msgspec.Struct, frozen=True):
    """Code objects of one version, compiled elsewhere: what the probe hands to the host.

    Args:
        magic: Bytecode format of the interpreter that compiled it.
        digest: Digest of the source that was compiled.
        root: Where that source is stored; it is written into the code objects.
        files: Marshalled code objects by path below the root.
    """

    magic: str
    digest: str
    root: str
    files: dict[str, bytes]


class LoadedCode:
    """One loaded generation of a module's code.

    Args:
        module: The executed Python module, or the package's `__init__`.
        private_name: Its name in `sys.modules`, for example "ledger@7".
        version: What was loaded.
    """

    __slots__ = ("_tree", "module", "private_name", "version")

    def __init__(
        self, module: ModuleType, private_name: str, version: Version, tree: _Tree
    ) -> None:
        self.module = module
        self.private_name = private_name
        self.version = version
        self._tree = tree

    @property
    def helpers(self) -> frozenset[str]:
        """Private names of the helpers beside it."""
        return frozenset(self._tree.helpers.values())

    def compiled(self) -> bytes:
        """Return the code of every file compiled so far, for `Loader.load(code=...)` elsewhere."""
        files = {path: marshal.dumps(code) for path, code in self._tree.code.items()}
        packed = CompiledVersion(_CODE_MAGIC, self.version.digest, str(self.version.root), files)
        return msgspec.msgpack.encode(packed)

    def compile_rest(self, *, bytes_max: int = 2 * 1024 * 1024) -> tuple[str, ...]:
        """Compile the files that nothing has imported yet, so that a lazy import need not.

        Args:
            bytes_max: Sources are skipped once so many bytes were compiled.

        Returns:
            One sentence for each file that does not compile.
        """
        failed: list[str] = []
        for relative in self.version.files:
            path = self.version.root / relative
            if not relative.endswith(".py") or relative in self._tree.code:
                continue
            bytes_max -= path.stat().st_size
            if bytes_max < 0:
                break
            try:
                self._tree.compile(relative)
            except SyntaxError as error:
                failed.append(f"{relative}:{error.lineno or 1} does not compile: {error.msg}")
        return tuple(failed)

    def unload(self) -> None:
        """Forget the generation everywhere; what still refers to it keeps working, import aside."""
        _forget(self._tree)
        self.module = ModuleType(self.private_name)


class Loader:
    """Loads versions; blocking, and safe to use from several threads."""

    def __init__(self) -> None:
        _finder.install()

    def load(
        self,
        version: Version,
        name: str,
        generation: int,
        *,
        runtime_names: Mapping[str, Any] | None = None,
        code: bytes | None = None,
        effects: Effects | None = None,
    ) -> LoadedCode:
        """Load and execute a version beside all that are loaded already.

        Args:
            version: What to load.
            name: The module's name in the host.
            generation: Number of the copy; where another host of this process has a module of that
                name and number, the private name tells them apart.
            runtime_names: Values that the version's code finds as if they were builtins.
            code: What the probe compiled (`ProbeResult.code`); used when it fits, else compiled
                here.
            effects: Notes what the import changes outside the version.

        Returns:
            The executed module. Nothing is left behind when this raises.

        Raises:
            SourceError: The code does not compile, or raised anything at all while it ran,
                `SystemExit` and `KeyboardInterrupt` included. `location` is the author's line and
                `candidate_traceback` its frames.
            ModuleError: One of our own decorators or classes refused what the code asked of it.
            StoreError: A stored file is gone.
        """
        # A dot would make it a sub-module of something else.
        private_name = _free_name(f"{name.replace('.', '_')}@{generation}")
        names = {**ENTRY_NAMES, **(runtime_names or {})}
        effects = effects or Effects()
        exits = effects.own(private_name)
        helpers = _lend_helpers(version)
        tree = _Tree(version, private_name, names, _unpack(version, code), helpers, exits)
        _finder.install()
        if _finder.trees.setdefault(private_name, tree) is not tree:
            raise InternalError(
                f"{private_name} is loaded already", module=name, expected="a new generation number"
            )
        failure: ReplankError | None = None
        try:
            with effects.step(private_name, exact=False):
                module = importlib.import_module(private_name)
        except BaseException as error:
            # Whatever a candidate raises is its author's business and must not reach the host:
            # `sys.exit` at import would otherwise end the thread or the whole process.
            _forget(tree)
            failure = _explain(error, tree, name)
        if failure is not None:
            # Raised out here so that it does not keep the candidate's frames alive as its context.
            raise failure
        return LoadedCode(module, private_name, version, tree)


def _free_name(wanted: str) -> str:
    """Return a name that stands for nothing yet: another host may have such a module, too."""
    return next(
        name
        for name in itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(2)))
        if name not in sys.modules and name not in _finder.trees
    )


class _Tree:
    """What is known of one generation while it lives."""

    def __init__(
        self,
        version: Version,
        private_name: str,
        runtime_names: Mapping[str, Any],
        marshalled: dict[str, bytes],
        helpers: Mapping[str, str],
        exits: list[Callable[..., object]],
    ) -> None:
        self.helpers = helpers
        self.version = version
        self.private_name = private_name
        self.code: dict[str, CodeType] = {}
        self.builtins = own_builtins(version.entry, private_name, runtime_names, helpers, exits)
        self._files = frozenset(version.files)
        self._marshalled = marshalled
        self.users = 0
        """Of a helper: how many generations have it."""

    def spec(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
        """Find one of the version's own modules."""
        parts = [self.version.entry, *fullname.split(".")[1:]]
        as_package = "/".join([*parts, "__init__.py"])
        as_file = "/".join(parts) + ".py"
        root = self.version.root
        for relative, is_package in ((as_package, True), (as_file, False)):
            if relative in self._files:
                loader = _FileLoader(fullname, str(root / relative), self, relative)
                places = [str((root / relative).parent)] if is_package else None
                return importlib.util.spec_from_file_location(
                    fullname, root / relative, loader=loader, submodule_search_locations=places
                )
        folder = "/".join(parts) + "/"
        if any(one.startswith(folder) for one in self._files):
            bare = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            bare.submodule_search_locations = [str(root / folder)]
            return bare
        return None

    def compile(self, relative: str) -> CodeType:
        """Return the code of one file, compiled once."""
        if (code := self.code.get(relative)) is not None:
            return code
        path = self.version.root / relative
        if (marshalled := self._marshalled.pop(relative, None)) is not None:
            code = marshal.loads(marshalled)  # noqa: S302 - our own probe wrote it a moment ago
        else:
            is_entry = relative == self.version.entry_file
            source = path.read_bytes()
            if is_helper(self.private_name):  # it is no module: nothing in it is a call
                code = compile(source, str(path), "exec", dont_inherit=True)
            else:
                code = compile_source(source, path, functions=is_entry)
        self.code[relative] = code
        return code


def _lend_helpers(version: Version) -> dict[str, str]:
    """Make the helpers of a version known, each once for its content; say what each is called."""
    found = version.helpers()
    names = {helper.name: helper.private_name for helper, _ in found}
    for helper, own in found:
        with _lending:
            tree = _finder.trees.get(helper.private_name)
            if tree is None:
                tree = _Tree(own, helper.private_name, {}, {}, names, exits=[])
                _finder.trees[helper.private_name] = tree
            tree.users += 1
    return names


def _return_helpers(tree: _Tree) -> None:
    """Forget the helpers that no generation uses any more."""
    if is_helper(tree.private_name):
        return
    for private_name in tree.helpers.values():
        with _lending:
            helper = _finder.trees[private_name]
            helper.users -= 1
            unused = not helper.users
        if unused:
            _forget(helper)


def compile_source(source: bytes, path: Path, *, functions: bool) -> CodeType:
    """Compile a file with entries beside its calls, or plainly when that is not possible.

    Args:
        source: The file's bytes.
        path: What the code objects name as their file.
        functions: Whether top-level functions are calls when the file has no module class.

    Raises:
        SyntaxError: The source is no Python.
    """
    if (at := source.find(b"\0")) >= 0:
        # Python's own complaint names neither file nor line.
        line = source.count(b"\n", 0, at) + 1
        raise SyntaxError("source code cannot contain null bytes", (str(path), line, None, None))
    tree = parse_module(source, str(path))
    try:
        # A warning of the compiler inside a doubled body comes twice; the probe drops the second.
        add_entries(tree, functions=functions)
        return compile(tree, str(path), "exec", dont_inherit=True)
    except Exception:
        # Entries buy speed and nothing else: without them the code is what the author wrote, and
        # an error of the author's own is raised from that.
        return compile(source, str(path), "exec", dont_inherit=True)


class _FileLoader(importlib.machinery.SourceFileLoader):
    """Execute one stored file inside its generation's own builtins.

    The base class gives `inspect.getsource` and `importlib.resources` what they ask for.
    """

    def __init__(self, fullname: str, path: str, tree: _Tree, relative: str) -> None:
        super().__init__(fullname, path)
        self._tree = tree
        self._relative = relative

    def get_code(self, fullname: str) -> CodeType:
        """Compile the stored source; bytecode caches are out of the question."""
        assert fullname == self.name
        return self._tree.compile(self._relative)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the file; functions that it defines keep these builtins for life."""
        module.__dict__["__builtins__"] = self._tree.builtins
        exec(self.get_code(module.__name__), module.__dict__)  # noqa: S102 - this is the loader


class _PrivateFinder(MetaPathFinder):
    """Finds what belongs to a loaded generation; blind to every other name."""

    def __init__(self) -> None:
        self.trees: dict[str, _Tree] = {}

    def install(self) -> None:
        """Stand first on `sys.meta_path`, once."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module of a private root."""
        del path, target
        tree = self.trees.get(fullname.partition(".")[0])
        return tree.spec(fullname) if tree is not None else None


_finder: Final = _PrivateFinder()
"""One for the process, as `sys.meta_path` and `sys.modules` are."""
_lending: Final = threading.Lock()


def _explain(error: BaseException, tree: _Tree, name: str) -> ReplankError:
    version = tree.version
    if isinstance(error, OSError) and not (version.root / version.entry_file).exists():
        return StoreError(
            "a stored version is gone",
            module=name,
            expected=f"the source in {version.root}",
            do="reload from the source",
        )
    return explain(error, version, name, tree.private_name)


def _unpack(version: Version, code: bytes | None) -> dict[str, bytes]:
    """Return the probe's code by file, or nothing when it is not for this version here."""
    if code is None:
        return {}
    try:
        packed = msgspec.msgpack.decode(code, type=CompiledVersion)
    except msgspec.DecodeError:
        return {}
    fits = (packed.magic, packed.digest, packed.root) == (
        _CODE_MAGIC,
        version.digest,
        str(version.root),
    )
    return packed.files if fits else {}


def _forget(tree: _Tree) -> None:
    """Remove a generation from every cache of the interpreter that would keep it alive."""
    name, root = tree.private_name, str(tree.version.root)
    if _finder.trees.pop(name, None) is not None:
        _return_helpers(tree)
    for key in modules_below(name):
        sys.modules.pop(key, None)
    forget_caches(name, root)


__all__ = ["CompiledVersion", "LoadedCode", "Loader", "compile_source"]
