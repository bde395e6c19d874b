import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from replank.config import Config, HttpConfig
from replank.control.client import Client
from replank.control.locate import Contact, HostNotFound, find_data_dir, read_contact, write_contact
from replank.control.protocol import may_be_withdrawn, peer_uid
from replank.control.server import ControlServer
from replank.control.wire import CallFailed
from replank.errors import ConfigError, UnknownCall, UnknownModule, UsageError, WrongArguments
from replank.instrumentation.events import PhaseEnded, PhaseStarted
from replank.report import Outcome
from replank.traffic.calls import live_chain
from replank.traffic.gate import Gate
from replank.traffic.lane import Lane
from replank.traffic.messages import Inbox, Message

from .conftest import exchange, request, tcp


@pytest.fixture
async def client(server):
    with Client(server.contact) as client:
        yield client


async def off_loop(function, *args, **kwargs):
    return await asyncio.to_thread(function, *args, **kwargs)


async def test_clients_find_the_host_while_it_runs_and_not_afterwards(host, config):
    data_dir = Path(config.data_dir)
    async with ControlServer(host, config) as server:
        contact = read_contact(data_dir)
        assert contact == server.contact
        assert contact.pid == os.getpid()
        assert contact.http.startswith("http://127.0.0.1:")
        assert stat.S_IMODE(Path(contact.socket).stat().st_mode) == 0o600
        assert stat.S_IMODE(Path(contact.socket).parent.stat().st_mode) == 0o700
    assert not Path(contact.socket).exists()
    with pytest.raises(HostNotFound, match="no host runs"):
        read_contact(data_dir)


async def test_a_long_data_directory_gets_its_socket_in_a_private_temporary_folder(
    host, config, tmp_path
):
    config = msgspec.structs.replace(config, data_dir=str(tmp_path / ("x" * 120)))
    async with ControlServer(host, config) as server:
        path = Path(server.contact.socket)
        assert len(str(path)) < 100
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with Client(server.contact) as client:
            assert (await off_loop(client.version)).pid == os.getpid()
    assert not path.parent.exists()


async def test_http_can_be_switched_off(host, tmp_path):
    config = Config(data_dir=str(tmp_path), http=HttpConfig(enabled=False))
    async with ControlServer(host, config) as server:
        assert server.contact.http is None
        with Client(server.contact) as client:
            assert (await off_loop(client.status)).modules[0].name == "ledger"


async def test_a_taken_port_is_refused_and_nothing_stays_open(host, server, tmp_path):
    port = int(server.contact.http.rpartition(":")[2])
    config = Config(data_dir=str(tmp_path / "other"), http=HttpConfig(port=port))
    other = ControlServer(host, config)
    with pytest.raises(ConfigError, match="cannot listen") as caught:
        await other.start()
    assert "--port" in caught.value.do
    assert not (tmp_path / "other" / "control.json").exists()


async def test_an_address_of_another_machine_is_refused(host, tmp_path):
    config = Config(data_dir=str(tmp_path), http=HttpConfig(host="192.0.2.1", port=0))
    with pytest.raises(ConfigError, match="cannot listen"):
        await ControlServer(host, config).start()


async def test_a_call_in_flight_is_answered_before_the_doors_close(host, config):
    server = ControlServer(host, config)
    await server.start()
    async with tcp(server) as (reader, writer):
        answer = asyncio.ensure_future(
            exchange(reader, writer, request("POST", "/modules/ledger/hold"))
        )
        await host.ledger.held.wait()
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        host.ledger.released.set()
        assert (await answer).json == "released"
        await stopping


async def test_a_call_that_never_ends_does_not_keep_the_doors_open(host, config):
    http = msgspec.structs.replace(config.http, stop_timeout_s=1)
    server = ControlServer(host, msgspec.structs.replace(config, http=http))
    await server.start()
    async with tcp(server) as (_, writer):
        writer.write(request("POST", "/modules/ledger/hold"))
        await host.ledger.held.wait()
        async with asyncio.timeout(10):
            await server.stop()


async def test_the_client_reads_status_history_plan_and_version(client):
    assert (await off_loop(client.status)).modules[0].label == "1.0"
    reports = await off_loop(client.history, 3, "ledger")
    assert [report.id for report in reports] == ["r3", "r2", "r1"]
    plan = await off_loop(client.plan, "ledger")
    assert plan.modules[0].steps == ("1 -> 2: rename total to total_cents",)
    assert (await off_loop(client.version)).protocol == 1


async def test_a_reload_is_followed_live_and_ends_with_its_report(client, host):
    lines = []
    report = await off_loop(client.reload, {"ledger": "v2.py"}, on_line=lines.append)
    assert report.committed
    assert [type(line) for line in lines] == [PhaseStarted, PhaseEnded]
    assert host.reloads == [({"ledger": str(Path("v2.py").absolute())}, "cli")]


@pytest.mark.parametrize("outcome", [Outcome.ROLLED_BACK, Outcome.REJECTED])
async def test_a_reload_that_fails_is_a_report_and_not_an_error(client, host, outcome):
    host.outcome = outcome
    assert (await off_loop(client.reload, ["ledger"])).outcome is outcome
    assert (await off_loop(client.rollback, "ledger")).outcome is outcome


async def test_misuse_comes_back_as_the_error_that_the_host_raised(client):
    with pytest.raises(UnknownModule) as caught:
        await off_loop(client.reload, "nobody")
    assert caught.value.expected == "ledger"
    with pytest.raises(UsageError, match="no version to go back to"):
        await off_loop(client.rollback, "fresh")
    with pytest.raises(UnknownCall, match="has no call"):
        await off_loop(client.call, "ledger", "nothing")
    with pytest.raises(WrongArguments):
        await off_loop(client.call, "ledger", "deposit", {"owner": 3})
    with pytest.raises(UsageError, match="no module was named"):
        await off_loop(client.reload, [])


async def test_a_failure_in_the_middle_of_a_followed_reload_is_raised(client, host):
    async def broken(on_phase):
        on_phase(PhaseStarted(id="r7", phase="prepare"))
        raise UsageError("the host is confused", do="tell us")

    host._reload = broken
    with pytest.raises(UsageError) as caught:
        await off_loop(client.reload, "ledger")
    assert caught.value.do == "tell us"


async def test_calls_and_messages_go_over_the_socket(client, host):
    assert await off_loop(client.call, "ledger", "deposit", {"owner": "ada", "cents": 5}) == 5
    assert await off_loop(client.call, "ledger", "count", [2]) == [0, 1]
    await off_loop(client.send, "ledger", "deposit", ["ada"])
    assert host.messages == [("deposit", ("ada",), {})]
    with pytest.raises(CallFailed) as caught:
        await off_loop(client.call, "ledger", "overdraw")
    assert caught.value.kind == "Overdrawn"
    assert "/home/ada/secret" in str(caught.value)  # the owner may see paths


async def test_stop_asks_the_program_that_runs_the_host(client, stops):
    await off_loop(client.stop)
    assert stops == [1]


async def test_a_host_that_cannot_be_stopped_from_outside_says_so(host, config):
    async with ControlServer(host, config) as server:
        with Client(server.contact) as client:
            with pytest.raises(UsageError, match="stopped by the program that started it"):
                await off_loop(client.stop)


@pytest.mark.parametrize(
    ("wrong", "body", "status"),
    [
        ("GET /control/history?limit=0", b"", 422),
        ("GET /control/history?limit=many", b"", 422),
        ("GET /control/nothing", b"", 404),
        ("GET /control/reload", b"", 405),
        ("POST /control/reload", b"{", 422),
        ("POST /control/reload", {"modules": ["ledger"], "module": 1}, 422),
        ("POST /control/reload", {"modules": 3}, 422),
        ("POST /control/reload", b" " * 20_000, 413),
        ("POST /control/plan", {}, 422),
    ],
)
async def test_bad_control_requests_are_refused(ask, config, wrong, body, status):
    method, path = wrong.split()
    token = (Path(config.data_dir) / "token").read_text().strip()
    answer = await ask(method, path, body, {"Authorization": f"Bearer {token}"})
    assert answer.status == status
    assert answer.json["error"]


async def test_the_reload_goes_on_when_its_reader_goes_away(server, host):
    host.gate.clear()
    reader, writer = await asyncio.open_unix_connection(server.contact.socket)
    writer.write(request("POST", "/control/reload", {"modules": ["ledger"], "stream": True}))
    await reader.readuntil(b"PhaseEnded")
    task = next(t for t in asyncio.all_tasks() if "_wait_for" in repr(t.get_coro()))
    writer.close()
    await writer.wait_closed()
    host.gate.set()
    assert (await task).committed


async def test_a_host_that_was_killed_is_reported_as_gone(server, tmp_path):
    contact = msgspec.structs.replace(server.contact, socket=str(tmp_path / "none.sock"))
    with Client(contact) as client, pytest.raises(HostNotFound, match="cannot be reached"):
        await off_loop(client.status)


async def test_a_host_that_does_not_answer_is_given_up(tmp_path, server):
    path = str(tmp_path / "mute.sock")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        contact = msgspec.structs.replace(server.contact, socket=path)
        with Client(contact, timeout_s=0.05) as client:
            with pytest.raises(HostNotFound, match="does not answer"):
                await off_loop(client.status)


async def test_a_host_of_another_protocol_is_refused(client, monkeypatch):
    monkeypatch.setattr("replank.control.wire.PROTOCOL", 2)
    real = type(client).version
    monkeypatch.setattr(
        type(client), "version", lambda self: msgspec.structs.replace(real(self), protocol=3)
    )
    with pytest.raises(UsageError, match="another control protocol"):
        await off_loop(client.status)


def test_the_data_directory_is_found_by_option_then_file_then_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_data_dir() == Path(".replank")
    (tmp_path / "replank.toml").write_text('data_dir = "var"')
    assert find_data_dir() == tmp_path / "var"
    (tmp_path / "other.toml").write_text('data_dir = "else"')
    assert find_data_dir(None, "other.toml") == tmp_path / "else"
    assert find_data_dir("mine", "other.toml") == Path("mine")


@pytest.mark.parametrize("slip", ['data_dir = "var"\nno_such_key = 1\n', "data_dir = ["])
def test_a_slip_in_the_configuration_keeps_nobody_from_a_host_that_runs(
    tmp_path, monkeypatch, slip
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REPLANK_DATA_DIR", raising=False)
    (tmp_path / "replank.toml").write_text(slip)
    with pytest.raises(ConfigError):
        find_data_dir()
    folder = Path("var" if "var" in slip else ".replank")
    folder.mkdir()
    write_contact(folder, Contact(pid=1, socket="s", http=None, version="1"))
    assert find_data_dir() == folder


def test_a_damaged_note_is_reported(tmp_path):
    (tmp_path / "control.json").write_text("{")
    with pytest.raises(HostNotFound, match="cannot be read"):
        read_contact(tmp_path)


async def test_the_note_is_for_its_owner_only(server, config, tmp_path):
    write_contact(tmp_path, server.contact)
    assert stat.S_IMODE((tmp_path / "control.json").stat().st_mode) == 0o600


def test_the_peer_of_a_unix_socket_is_known():
    a, b = socket.socketpair()
    with a, b:
        assert peer_uid(a) == os.getuid()


async def test_a_peer_that_is_another_user_gets_no_answer(server, monkeypatch):
    monkeypatch.setattr("replank.control.protocol.peer_uid", lambda _: os.getuid() + 1)
    reader, writer = await asyncio.open_unix_connection(server.contact.socket)
    writer.write(request("GET", "/control/status"))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


# -- who may be taken out of a queue, with the real gate ------------------------------------------


def open_lane(gate, **methods):
    lane = Lane(gate, 1)
    lane.methods.update(methods)
    lane.entries.update(methods)
    gate.first_open(lane)
    return lane


async def test_a_call_waiting_at_the_gate_may_be_withdrawn_and_is_never_run():
    gate, ran = Gate("ledger"), []

    async def deposit():
        ran.append(live_chain())

    lane = open_lane(gate, deposit=deposit)
    gate.close()
    task = asyncio.ensure_future(lane.detour("deposit", (), {}))
    await asyncio.sleep(0)
    assert gate.waiting == 1
    assert may_be_withdrawn(task)
    task.cancel()
    await asyncio.wait([task])
    assert gate.waiting == 0
    gate.reopen()
    assert ran == []


async def test_a_call_that_has_entered_may_not_be_withdrawn():
    gate, go = Gate("ledger"), asyncio.Event()
    lane = open_lane(gate, wait=go.wait)

    async def call():
        chain = lane.enter("wait")
        try:
            await go.wait()
        finally:
            chain.leave()

    task = asyncio.ensure_future(call())
    await asyncio.sleep(0)
    assert not may_be_withdrawn(task)
    go.set()
    await task


async def test_a_call_that_has_entered_and_waits_in_a_nested_call_may_not_be_withdrawn():
    api, ledger = Gate("api"), Gate("ledger")

    async def deposit():
        return 1

    api_lane, ledger_lane = open_lane(api), open_lane(ledger, deposit=deposit)

    async def place():
        chain = api_lane.enter("place")
        try:
            return await ledger_lane.detour("deposit", (), {})
        finally:
            chain.leave()

    ledger.close()
    ledger.quiet()
    task = asyncio.ensure_future(place())
    await asyncio.sleep(0)
    assert ledger.waiting == 1
    assert not may_be_withdrawn(task)
    ledger.reopen()
    assert await task == 1


async def test_a_message_waiting_for_room_may_be_withdrawn():
    gate = Gate("ledger")

    async def deposit():
        return 1

    open_lane(gate, deposit=deposit)
    inbox = Inbox(gate, messages_max=1, on_failure=lambda *_: None)
    await inbox.put(Message("deposit", (), {}))
    task = asyncio.ensure_future(inbox.put(Message("deposit", (), {})))
    await asyncio.sleep(0)
    assert may_be_withdrawn(task)
    task.cancel()
    await asyncio.wait([task])
    assert inbox.queued == 1


async def test_a_waiting_call_is_withdrawn_when_its_http_client_goes(server, host):
    gate, ran = Gate("ledger"), []

    async def deposit(owner):
        ran.append(owner)

    lane = open_lane(gate, deposit=deposit)
    host.call = lambda name, method, args, kwargs: lane.detour(method, args, kwargs)
    gate.close()
    async with tcp(server) as (_, writer):
        writer.write(request("POST", "/modules/ledger/deposit", {"owner": "ada"}))
        while not gate.waiting:
            await asyncio.sleep(0)
    while gate.waiting:
        await asyncio.sleep(0)
    gate.reopen()
    assert ran == []
