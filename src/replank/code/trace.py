"""Say where in the author's own files something went wrong.

Candidates run from the store, under private names. What is shown to their authors has the authors'
paths, module names and source lines, and only frames that they wrote.
"""

from __future__ import annotations

import linecache
import re
import traceback
from collections.abc import Iterator
from typing import Final

from replank.code.helpers import FOLDER, without_private_names
from replank.code.store import Version
from replank.errors import ModuleError, SourceError

_FRAMES_MAX: Final = 30
_MESSAGE_CHARS_MAX: Final = 500
_CHAIN_MAX: Final = 10
_FAULT_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<where>\S+)')


def source_error(
    error: BaseException,
    version: Version,
    name: str,
    private_name: str,
    *,
    doing: str = "the candidate could not be loaded",
) -> SourceError:
    """Turn what a candidate raised into the error that its author reads.

    Args:
        error: What was raised while the candidate's code ran or was compiled.
        version: The candidate.
        name: The module's name in the host.
        private_name: The generation's name in `sys.modules`.
        doing: What was attempted, as a sentence.

    Returns:
        An error with `location` and `candidate_traceback`.
    """
    kind = type(error).__name__
    message = _public(_message(error), version, private_name)[:_MESSAGE_CHARS_MAX]
    found = f"{kind}: {message}" if message else kind
    made = SourceError(
        f"{doing}: {found}",
        module=name,
        found=found,
        expected=_expected(error),
        do=_do(error),
        location=location_of(error, version),
    )
    trace = candidate_traceback(error, version, private_name)
    made.candidate_traceback = trace
    return made


def constructor_error(error: BaseException, module: str) -> SourceError:
    """Return the error for a module whose constructor raises.

    Args:
        error: What it raised.
        module: The module's name.
    """
    said = f"{type(error).__name__}: {error}"
    return SourceError(
        f"the module cannot be constructed: {said}",
        module=module,
        found=said,
        expected="a constructor that takes nothing and returns",
        do="mend the constructor and reload again",
    )


def explain(
    error: BaseException,
    version: Version,
    name: str,
    private_name: str,
    *,
    doing: str = "the candidate could not be loaded",
) -> ModuleError:
    """Return what a candidate raised as an error of ours, its place in the author's files added.

    An error of ours that already speaks to the author (`@every(0)`, an annotation that cannot be
    read) stays what it is; anything else becomes a `SourceError`.

    Args:
        error: What was raised while the candidate's code ran.
        version: The candidate.
        name: The module's name in the host.
        private_name: The generation's name in `sys.modules`.
        doing: What was attempted, as a sentence.
    """
    if not isinstance(error, ModuleError):
        return source_error(error, version, name, private_name, doing=doing)
    error.module = error.module or name
    error.location = error.location or location_of(error, version)
    error.do = error.do or _do(error)
    if not getattr(error, "candidate_traceback", ""):
        trace = candidate_traceback(error, version, private_name)
        error.candidate_traceback = trace
    # Its frames would keep the candidate alive for as long as the report is.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error


def location_of(error: BaseException, version: Version) -> str | None:
    """Return the candidate's line closest to the raise, "ledger.py:12", or None when it has none.

    Args:
        error: What was raised.
        version: The candidate.
    """
    for one in _chain(error):
        if isinstance(one, SyntaxError) and one.filename:
            relative = _relative(one.filename, version)
            if relative is not None:
                return f"{relative}:{one.lineno or 1}"
        for frame, line in reversed(list(traceback.walk_tb(one.__traceback__))):
            relative = _relative(frame.f_code.co_filename, version)
            if relative is not None:
                return f"{relative}:{line}"
    return None


def location_in_fault(text: str, version: Version) -> str | None:
    """Return the candidate's innermost line in what `faulthandler` wrote, or None.

    Args:
        text: One or more of its tracebacks, the most recent call first.
        version: The candidate.
    """
    for match in _FAULT_FRAME.finditer(text):
        relative = _relative(match["file"], version)
        if relative is not None:
            return f"{relative}:{match['line']}"
    return None


def fault_traceback(text: str, version: Version) -> str:
    """Format the candidate's frames of what `faulthandler` wrote, most recent call last.

    Args:
        text: Its output, the most recent call first.
        version: The candidate.
    """
    frames = []
    for match in _FAULT_FRAME.finditer(text):
        if _relative(match["file"], version) is not None:
            file = _here(match["file"], version)
            path = version.author_path(file.removeprefix(f"{version.root}/"))
            line = linecache.getline(match["file"], int(match["line"])).strip()
            frames.append(
                f'  File "{path}", line {match["line"]}, in {match["where"]}\n    {line}\n'
            )
    if not frames:
        return ""
    heading = "Traceback (the candidate's own frames, most recent call last):\n"
    return heading + "".join(reversed(frames[:_FRAMES_MAX]))


def candidate_traceback(error: BaseException, version: Version, private_name: str) -> str:
    """Format an exception with only the candidate's frames, under the author's own paths.

    Args:
        error: What was raised.
        version: The candidate.
        private_name: The generation's name in `sys.modules`.
    """
    lines: list[str] = []
    frames = _own_frames(error, version)
    if frames:
        lines.append("Traceback (the candidate's own frames, most recent call last):\n")
        lines.extend(traceback.StackSummary.from_list(frames).format())
    lines.extend(traceback.format_exception_only(error))
    notes = [
        f"caused by {type(one).__name__} at {place}\n"
        for one in list(_chain(error))[1:]
        if (place := location_of(one, version))
    ]
    text = "".join([*lines, *notes])
    for relative in version.files:
        stored, author = str(version.root / relative), str(version.author_path(relative))
        text = text.replace(f'"{stored}"', f'"{author}"')
    return _public(text, version, private_name)


def _own_frames(error: BaseException, version: Version) -> list[traceback.FrameSummary]:
    frames: list[traceback.FrameSummary] = []
    walked = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__))
    for frame in walked:
        if _relative(frame.filename, version) is None:
            continue
        own = traceback.FrameSummary(
            _here(frame.filename, version),
            frame.lineno,
            frame.name,
            line=frame.line,
            end_lineno=frame.end_lineno,
            colno=frame.colno,
            end_colno=frame.end_colno,
        )
        frames.append(own)
    return frames[-_FRAMES_MAX:]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, then what caused it."""
    seen: BaseException | None = error
    for _ in range(_CHAIN_MAX):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _relative(filename: str, version: Version) -> str | None:
    """Return a file's path below the store as the author knows it, or None for foreign files."""
    filename, root = _here(filename, version), f"{version.root}/"
    if not filename.startswith(root):
        return None
    if filename.startswith(f"{root}{FOLDER}/"):
        return filename.removeprefix(f"{root}{FOLDER}/")
    if not version.is_package:
        return version.source.name
    return f"{version.source.name}/{filename.removeprefix(root).partition('/')[2]}"


def _here(filename: str, version: Version) -> str:
    """Return a file's path in this version: a helper may run from another one with its content."""
    _, found, relative = filename.partition(f"/{FOLDER}/")
    if found and f"{FOLDER}/{relative}" in version.files:
        return str(version.root / FOLDER / relative)
    return filename


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        return str(error)
    except Exception:
        # An exception of the author's may be unable to say what it is.
        return ""


def _public(text: str, version: Version, private_name: str) -> str:
    text = without_private_names(re.sub(rf"{re.escape(private_name)}\b", version.entry, text))
    return text.replace(f"{version.root}/{version.entry}/", f"{version.source}/")


def _expected(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "Python source"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "a module that can be imported and constructed without ending the program"
    return "a module that can be imported and constructed without an error"


def _do(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return "correct the line and reload"
    if isinstance(error, ModuleNotFoundError):
        return "install the missing package for this interpreter, or correct the import"
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "move what ends the program under `if __name__ == '__main__':`"
    if isinstance(error, MemoryError):
        return "build large data in on_start, or raise the probe's memory limit"
    return "correct the line and reload; open what may fail in on_start"


__all__ = [
    "candidate_traceback",
    "constructor_error",
    "explain",
    "fault_traceback",
    "location_in_fault",
    "location_of",
    "source_error",
]
