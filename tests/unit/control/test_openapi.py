import re
from typing import Any

import pytest
from starlette.routing import Route

from replank.control.openapi import make_document
from replank.control.operations import OPERATIONS
from replank.control.routes import ControlRoutes
from replank.errors import ReplankError


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


async def test_the_document_is_served_to_who_has_the_token(ask, token):
    assert (await ask("GET", "/control/openapi.json")).status == 401
    answer = await ask("GET", "/control/openapi.json", headers=token)
    assert answer.json["openapi"] == "3.1.0"


def test_each_route_is_described_and_each_description_is_a_route(server):
    routes = server._doors[0]._server.config.loaded_app._control.app.routes
    served = {
        (one.path, method) for one in routes if isinstance(one, Route) for method in one.methods
    }
    document = make_document("1")
    described = {
        (path, method.upper())
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/control/")
    }
    assert described == {(path, method) for path, method in served if method != "HEAD"}
    assert len(described) == len(OPERATIONS)
    assert all(hasattr(ControlRoutes, f"_{one.handler}") for one in OPERATIONS)


def test_whatever_the_document_refers_to_is_in_it():
    document = make_document("1")
    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


def test_records_keep_their_strictness_and_their_words():
    schema = make_document("1")["components"]["schemas"]["ReloadRequest"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["modules"]
    assert "body of" in schema["description"]


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.handler)
async def test_a_wrong_method_is_405_and_a_body_that_is_no_json_422(ask, token, one):
    assert (await ask("DELETE", f"/control/{one.path}", headers=token)).status == 405
    if one.body is not None:
        for body in (b"{", b"[]", b"nul", b"\xff", b'{"modules": 3, "module": 3}', b"[" * 9_000):
            answer = await ask("POST", f"/control/{one.path}", body, headers=token)
            if one.body == dict[str, Any] and body.startswith(b"{") and answer.status < 300:
                continue  # it takes any object
            assert answer.status == 422, (body, answer.body)
            assert answer.json["error"]


def test_every_error_of_ours_has_a_status_of_its_own_kind():
    from replank import errors
    from replank.control.wire import status_of

    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ReplankError)
    ]
    found = {kind.__name__: status_of(kind("x")) for kind in kinds}
    assert {name for name, status in found.items() if status == 500} == {
        *("ReplankError", "StorageError", "SnapshotError", "JournalError", "StoreError"),
        *("DataDirBusy", "ReloadFailed", "InternalError"),
        "RemoteError",  # as a module's own ValueError has
    }
    assert found["MigrationError"] == found["SchemaError"] == 422
    assert found["PhaseTimeout"] == found["Overloaded"] == 503
    assert re.match(r"40\d", str(found["UnknownModule"]))
