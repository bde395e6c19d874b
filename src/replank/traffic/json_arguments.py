"""A request's JSON body as a call's arguments, typed by the call's own annotations.

For each call two decoders are compiled once a generation: one for an object (keyword arguments) and
one for an array (positional ones). They check and convert in one pass over the bytes.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Final, Union

import msgspec
from msgspec import UNSET, UnsetType

from replank.definition import Call
from replank.errors import WrongArguments

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class CallReader:
    """Read the arguments of one call from JSON.

    Args:
        module: Name of the module, for errors.
        call: The call as its generation defines it.
    """

    __slots__ = (
        "_array",
        "_array_names",
        "_check_array",
        "_check_object",
        "_module",
        "_object",
        "_object_names",
        "call",
    )

    def __init__(self, module: str, call: Call) -> None:
        self.call = call
        self._module = module
        parameters = call.signature.parameters.values()
        named = [parameter for parameter in parameters if parameter.kind in _NAMED]
        placed = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        kinds = {parameter.kind for parameter in parameters}
        # An object cannot give what is positional only, nor an array what is keyword only.
        self._check_object = inspect.Parameter.POSITIONAL_ONLY in kinds
        self._check_array = inspect.Parameter.KEYWORD_ONLY in kinds
        # `*args` and `**kwargs` take anything, so there is nothing to compile against.
        self._object_names = tuple(parameter.name for parameter in named)
        self._array_names = tuple(parameter.name for parameter in placed)
        self._object = (
            None
            if inspect.Parameter.VAR_KEYWORD in kinds
            else _decoder(named, call.hints, array_like=False)
        )
        self._array = (
            None
            if inspect.Parameter.VAR_POSITIONAL in kinds
            else _decoder(placed, call.hints, array_like=True)
        )

    def read(self, body: bytes) -> Arguments:
        """Return positional and keyword arguments.

        Args:
            body: A JSON object, a JSON array, or nothing at all for no arguments.

        Raises:
            WrongArguments: The body is no JSON, or does not fit the call; says where and why.
        """
        start = body.lstrip()[:1]
        try:
            if start == b"{" or not start:
                return (), self._read_object(body if start else b"{}")
            if start == b"[":
                return self._read_array(body), {}
        except msgspec.DecodeError as error:
            raise self._wrong(error) from None
        except (UnicodeDecodeError, RecursionError) as error:
            raise self._wrong(msgspec.DecodeError(str(error) or type(error).__name__)) from None
        raise self._wrong(msgspec.ValidationError("expected an object or an array of arguments"))

    def _read_object(self, body: bytes) -> dict[str, Any]:
        if self._object is None:
            loose: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
            self._bind((), loose)
            return loose
        struct = self._object.decode(body)
        values = ((name, getattr(struct, f"p{i}")) for i, name in enumerate(self._object_names))
        keywords = {name: value for name, value in values if value is not UNSET}
        if self._check_object:
            self._bind((), keywords)
        return keywords

    def _read_array(self, body: bytes) -> tuple[Any, ...]:
        if self._array is None:
            loose = tuple(msgspec.json.decode(body, type=list[Any]))
            self._bind(loose, {})
            return loose
        struct = self._array.decode(body)
        values = [getattr(struct, f"p{i}") for i in range(len(self._array_names))]
        while values and values[-1] is UNSET:
            values.pop()
        if self._check_array:
            self._bind(tuple(values), {})
        return tuple(values)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.call.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self._wrong(msgspec.ValidationError(str(error))) from None

    def _wrong(self, error: msgspec.DecodeError) -> WrongArguments:
        text, _, path = str(error).partition(" - at `")
        path = path.rstrip("`") or "$"
        if index := re.match(r"\$\[(\d+)\]", path):  # say the parameter's name, not its place
            number = int(index[1])
            if number < len(self._array_names):
                path = f"$.{self._array_names[number]}{path[index.end() :]}"
        wrong = WrongArguments(
            f"the arguments do not fit {self._module}.{self.call.name}",
            module=self._module,
            found=text if path == "$" else f"{path}: {text}",
            expected=f"{self.call.name}{signature_text(self.call.signature)}",
            do="send a JSON object of keyword arguments, or an array of positional ones",
        )
        wrong.path, wrong.reason = path, text  # type: ignore[attr-defined]
        return wrong


def _decoder(
    parameters: list[inspect.Parameter], hints: dict[str, Any], *, array_like: bool
) -> msgspec.json.Decoder[Any]:
    """Compile the parameters to a struct; its fields are numbered, so that no name can clash."""
    fields = [
        _field(number, parameter, hints.get(parameter.name, Any))
        for number, parameter in enumerate(parameters)
    ]
    names = {f"p{number}": parameter.name for number, parameter in enumerate(parameters)}
    struct = msgspec.defstruct(
        "Arguments",
        fields,
        array_like=array_like,
        kw_only=not array_like,  # an array's order counts
        forbid_unknown_fields=True,
        rename=names,
        gc=False,
    )
    return msgspec.json.Decoder(struct)


def _field(number: int, parameter: inspect.Parameter, hint: Any) -> Any:
    name = f"p{number}"
    if parameter.default is inspect.Parameter.empty:
        return name, _readable(hint)
    readable = _readable(hint)
    return name, readable if readable is Any else Union[readable, UnsetType], UNSET  # noqa: UP007 - the hint may be a string or a generic, which `|` refuses


def _readable(hint: Any) -> Any:
    """Return the hint, or Any where msgspec cannot read it: then the call itself must check."""
    try:
        msgspec.json.Decoder(hint)
    except Exception:
        # Whatever an author wrote as annotation; it must not take the call away.
        return Any
    return hint


_PRIVATE_PREFIX: Final = re.compile(r"\b[\w.]+@\w+\.")


def signature_text(signature: inspect.Signature) -> str:
    """Return the signature as the author wrote it, without our private module names.

    Args:
        signature: Of a call.
    """
    return _PRIVATE_PREFIX.sub("", str(signature)).replace("'", "")


__all__ = ["Arguments", "CallReader", "signature_text"]
