import asyncio
import gc
import weakref

import pytest

from replank.errors import CallAborted, HostStopped, Overloaded, StateSealed
from replank.instrumentation.events import ModuleLoaded

from .conftest import exchange, request, tcp


async def test_a_call_is_answered_with_its_result_as_json(ask):
    answer = await ask("POST", "/modules/ledger/deposit", {"owner": "ada", "cents": 5})
    assert (answer.status, answer.json) == (200, 5)
    answer = await ask("POST", "/modules/ledger/deposit", ["ada", 2])
    assert (answer.status, answer.json) == (200, 7)
    answer = await ask("POST", "/modules/ledger/deposit", ["ada"])
    assert answer.json == 8


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"  "])
async def test_a_call_without_arguments_needs_no_body(ask, body):
    assert (await ask("POST", "/modules/ledger/total_now", body)).json == 0


async def test_a_generation_that_serves_no_more_is_let_go_though_nobody_calls_again(host, ask):
    await ask("POST", "/modules/ledger/deposit", ["ada"])
    old = weakref.ref(type(host.ledger))
    host.load()
    gc.collect()
    assert old() is not None  # its readers are kept for the next call
    host.bus.publish(ModuleLoaded(name="ledger", label="2.0", digest="sha256:b", generation=2))
    gc.collect()
    assert old() is None
    assert (await ask("POST", "/modules/ledger/deposit", ["ada", 2])).json == 2


async def test_arguments_arrive_in_the_types_of_the_annotations(ask):
    body = {"order": {"owner": "ada", "day": "2026-01-02"}}
    answer = await ask("POST", "/modules/ledger/place", body)
    assert answer.json == {"type": "Order", "day": "2026-01-02", "note": None}


async def test_records_and_decimals_are_answered_as_json(ask):
    assert (await ask("POST", "/modules/ledger/account")).json == {"owner": "ada", "cents": 5}
    assert (await ask("POST", "/modules/ledger/price")).json == "1.10"


@pytest.mark.parametrize(
    ("call", "body", "path", "reason"),
    [
        ("deposit", {"owner": "ada", "cents": "5"}, "$.cents", "Expected `int`, got `str`"),
        ("deposit", ["ada", "5"], "$.cents", "Expected `int`, got `str`"),
        ("deposit", {"cents": 5}, "$", "missing required field `owner`"),
        ("deposit", {"owner": "ada", "amount": 5}, "$", "unknown field `amount`"),
        ("deposit", ["ada", 5, 6], "$", "at most length 2"),
        ("place", {"order": {"owner": "a", "day": "x"}}, "$.order.day", "encoded date"),
        ("deposit", b"{", "$", "truncated"),
        ("deposit", b'"ada"', "$", "an object or an array"),
        ("deposit", b'{"owner": "\xff"}', "$", "utf-8"),
        ("strict", [1, 2], "$", "missing a required"),
        ("strict", {"b": 1, "c": 2}, "$", "missing a required"),
    ],
)
async def test_wrong_arguments_are_refused_with_where_and_why(ask, call, body, path, reason):
    answer = await ask("POST", f"/modules/ledger/{call}", body)
    assert answer.status == 422
    assert answer.json["kind"] == "WrongArguments"
    assert answer.json["path"] == path
    assert reason in answer.json["reason"]
    assert answer.json["expected"].startswith(f"{call}(")


async def test_deeply_nested_json_is_refused(ask):
    answer = await ask("POST", "/modules/ledger/anything", b'{"a":' + b"[" * 4000)
    assert answer.status == 422


async def test_open_ended_parameters_take_what_comes(ask):
    assert (await ask("POST", "/modules/ledger/anything", [1, 2])).json == [[1, 2], {}]
    assert (await ask("POST", "/modules/ledger/anything", {"x": 1})).json == [[], {"x": 1}]


async def test_unknown_names_are_answered_404_with_the_nearest(ask):
    answer = await ask("POST", "/modules/legder/deposit", {})
    assert answer.status == 404
    assert answer.json["kind"] == "UnknownModule"
    assert answer.json["do"] == "did you mean ledger?"
    answer = await ask("POST", "/modules/ledger/deposti", {})
    assert answer.status == 404
    assert answer.json["do"] == "did you mean deposit?"
    assert (await ask("POST", "/modules/ledger/__init__", {})).status == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/modules/ledger/deposit", 405),
        ("POST", "/modules/ledger", 404),
        ("POST", "/modules/ledger/a/b", 404),
        ("POST", "/modules//deposit", 404),
        ("POST", "/modules/../control/stop", 404),
        ("GET", "/", 404),
        ("GET", "/modules", 404),
    ],
)
async def test_other_paths_and_methods_are_refused(ask, method, path, status):
    answer = await ask(method, path)
    assert answer.status == status
    assert answer.json["kind"] == "Refused"


async def test_a_modules_own_exception_is_answered_500_without_paths_of_the_host(ask):
    answer = await ask("POST", "/modules/ledger/overdraw")
    assert answer.status == 500
    assert answer.json == {"error": "no money in ledger.db", "kind": "Overdrawn"}
    answer = await ask("POST", "/modules/ledger/missing")
    assert answer.json == {"error": "No such file or directory", "kind": "FileNotFoundError"}
    assert (await ask("POST", "/modules/ledger/leave")).json["kind"] == "SystemExit"


async def test_an_answer_without_a_json_form_is_an_error_of_its_own(ask):
    answer = await ask("POST", "/modules/ledger/odd")
    assert answer.status == 500
    assert answer.json["kind"] == "NotJson"


@pytest.mark.parametrize("error", [Overloaded("too many calls wait"), HostStopped("stopping")])
async def test_a_call_that_cannot_be_taken_now_is_answered_503_with_retry_after(ask, host, error):
    async def refuse(*_):
        raise error

    host.call = refuse
    answer = await ask("POST", "/modules/ledger/deposit", {"owner": "ada"})
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json["kind"] == type(error).__name__


@pytest.mark.parametrize(
    ("error", "status"), [(CallAborted("ended by the drain"), 504), (StateSealed("sealed"), 409)]
)
async def test_a_call_that_a_reload_cut_off_is_not_answered_as_if_it_had_not_begun(
    ask, host, error, status
):
    async def refuse(*_):
        raise error

    host.call = refuse
    answer = await ask("POST", "/modules/ledger/deposit", {"owner": "ada"})
    assert answer.status == status
    assert "retry-after" not in answer.headers
    assert answer.json["kind"] == type(error).__name__


async def test_a_message_is_accepted_and_queued_with_typed_arguments(ask, host):
    answer = await ask("POST", "/modules/ledger/messages/deposit", {"owner": "ada"})
    assert (answer.status, answer.json) == (202, {"accepted": True})
    assert host.messages == [("deposit", (), {"owner": "ada"})]
    answer = await ask("POST", "/modules/ledger/messages/deposit", {"owner": 3})
    assert answer.status == 422
    assert len(host.messages) == 1


async def test_a_stream_is_answered_one_value_a_line(ask):
    answer = await ask("POST", "/modules/ledger/count", {"to": 2})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.lines == [0, 1]
    assert (await ask("POST", "/modules/ledger/count", {"to": 0})).lines == []


async def test_a_stream_that_fails_ends_with_the_reason(ask):
    answer = await ask("POST", "/modules/ledger/count", {"to": 9})
    assert answer.lines[:3] == [0, 1, 2]
    assert answer.lines[3]["type"] == "Failure"
    assert answer.lines[3]["facts"] == {"error": "three", "kind": "Overdrawn"}


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(server):
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/deposit", headers={"Content-Length": "10001"})
        assert (await exchange(reader, writer, raw)).status == 413


async def test_a_chunked_body_is_held_to_the_same_limit(server):
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    async with tcp(server) as (reader, writer):
        raw = request("POST", "/modules/ledger/deposit", headers=headers)
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        assert (await exchange(reader, writer, raw + chunk * 3 + b"0\r\n\r\n")).status == 413
    async with tcp(server) as (reader, writer):
        chunk = b'11\r\n{"owner": "ada"} \r\n'
        answer = await exchange(reader, writer, raw + chunk + b"0\r\n\r\n")
        assert answer.json == 1


async def test_many_requests_go_over_one_connection(server):
    async with tcp(server) as (reader, writer):
        for number in range(1, 20):
            raw = request("POST", "/modules/ledger/deposit", {"owner": "ada"})
            assert (await exchange(reader, writer, raw)).json == number


async def test_pipelined_requests_are_answered_in_order(server):
    raw = request("POST", "/modules/ledger/deposit", {"owner": "ada"})
    async with tcp(server) as (reader, writer):
        answers = [await exchange(reader, writer, raw * 3)]
        answers += [await exchange(reader, writer, b"") for _ in range(2)]
        assert [answer.json for answer in answers] == [1, 2, 3]


async def test_a_call_in_flight_runs_to_its_end_when_its_client_goes(server, host):
    async with tcp(server) as (_, writer):
        writer.write(request("POST", "/modules/ledger/hold"))
        await host.ledger.held.wait()
    task = next(t for t in asyncio.all_tasks() if "run_asgi" in repr(t.get_coro()))
    host.ledger.released.set()
    await task
    assert not task.cancelled()


async def test_another_generations_signature_is_used_as_soon_as_it_serves(ask, host):
    from .fake_host import LEDGER, load

    await ask("POST", "/modules/ledger/deposit", {"owner": "ada"})
    _, host._definition = load(
        LEDGER.replace("owner: str, cents: int = 1", "owner: int, cents: int = 1")
    )
    assert (await ask("POST", "/modules/ledger/deposit", {"owner": "ada"})).status == 422
    assert (await ask("POST", "/modules/ledger/deposit", {"owner": 3})).status == 200
