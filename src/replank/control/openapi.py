"""The OpenAPI document of a host's HTTP, made from the table of routes and the records it names."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from replank.control import wire
from replank.control.operations import JSON, OPERATIONS, PREFIX, Operation, Parameter

_REFERENCE: Final = "#/components/schemas/{name}"
_REFUSALS: Final = {
    400: "The request cannot be read, or asks for what cannot be.",
    401: "The token is missing or wrong.",
    403: "The request names another host, comes from a foreign page, or asks for too much.",
    404: "There is no such module or call.",
    405: "Not with this method.",
    408: "The request did not arrive in time.",
    409: "Not now, or not by this host.",
    413: "The body is too long.",
    422: "A parameter or the body is wrong; says which and why.",
    429: "Too many of these at once.",
    431: "The head is too long.",
    500: "The module raised, or a mistake of ours.",
    503: "Too much waits, or the host stops: try again.",
}
_ALWAYS: Final = (400, 401, 403, 404, 408, 431, 500, 503)
_WITH_BODY: Final = (413, 422)


def make_document(version: str) -> dict[str, Any]:
    """Return the document.

    Args:
        version: Of the running Replank.
    """
    records = [wire.Facts, *(kind for one in OPERATIONS for kind in _records_of(one))]
    schemas, components = msgspec.json.schema_components(records, ref_template=_REFERENCE)
    known = {id(kind): schema for kind, schema in zip(records, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Replank",
            "version": version,
            "description": "Control a host and call its modules.",
        },
        "security": [{"token": []}],
        "paths": {**paths, **_module_paths(), "/metrics": {"get": _metrics()}},
        "components": {
            "schemas": components,
            "responses": {f"refused{key}": _refused(text) for key, text in _REFUSALS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _records_of(one: Operation) -> list[Any]:
    kinds = [*one.answers.values(), one.body]
    return [kind for kind in kinds if kind is not None and not isinstance(kind, dict)]


def _operation(one: Operation, known: dict[int, Any]) -> dict[str, Any]:
    refusals = {*_ALWAYS, *one.refusals, *((422,) if one.parameters else ())}
    found: dict[str, Any] = {
        "operationId": one.handler,
        "summary": one.summary,
        "parameters": [_parameter(parameter) for parameter in one.parameters],
    }
    if one.body is not None:
        refusals |= set(_WITH_BODY)
        content = {JSON: {"schema": known[id(one.body)]}}
        found["requestBody"] = {"required": True, "content": content}
    content = {
        media: {"schema": kind if isinstance(kind, dict) else known[id(kind)]}
        for media, kind in one.answers.items()
    }
    found["responses"] = {
        str(one.status): {"description": one.summary, "content": content},
        **_refusals(refusals),
    }
    return found


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.where,
        "required": one.required,
        "description": one.text,
        "schema": one.schema,
    }


def _refusals(statuses: set[int]) -> dict[str, Any]:
    return {
        str(status): {"$ref": f"#/components/responses/refused{status}"}
        for status in sorted(statuses)
    }


def _refused(text: str) -> dict[str, Any]:
    schema = {"$ref": _REFERENCE.format(name="Facts")}
    return {"description": text, "content": {JSON: {"schema": schema}}}


def _module_paths() -> dict[str, Any]:
    names = [
        _parameter(
            Parameter(
                name,
                {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                text,
                "path",
                required=True,
            )
        )
        for name, text in (("module", "Name of a module."), ("method", "Name of a call."))
    ]
    body = {
        "required": False,
        "description": "An object of keyword arguments, or an array of positional ones.",
        "content": {JSON: {"schema": {"anyOf": [{"type": "object"}, {"type": "array"}]}}},
    }
    refusals = _refusals({*_ALWAYS, *_WITH_BODY, 405, 409})
    answers = {
        "call": (
            200,
            "Call a module.",
            {JSON: {"schema": {}}, "application/x-ndjson": {"schema": {}}},
        ),
        "send": (202, "Queue a message.", {JSON: {"schema": {"type": "object"}}}),
    }
    return {
        path: {
            "post": {
                "operationId": name,
                "summary": answers[name][1],
                "parameters": names,
                "requestBody": body,
                "responses": {
                    str(answers[name][0]): {
                        "description": answers[name][1],
                        "content": answers[name][2],
                    },
                    **refusals,
                },
            }
        }
        for path, name in (
            ("/modules/{module}/{method}", "call"),
            ("/modules/{module}/messages/{method}", "send"),
        )
    }


def _metrics() -> dict[str, Any]:
    text = "The host's numbers, for Prometheus."
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "operationId": "metrics",
        "summary": text,
        "responses": {
            "200": {"description": text, "content": content},
            **_refusals({401, 403, 405, 408, 431, 503}),
        },
    }


__all__ = ["make_document"]
