import stat

import pytest

from replank.control.guard import Refused, TcpGuard, is_loopback, read_or_make_token

from .conftest import exchange, tcp


@pytest.mark.parametrize(
    "name", ["localhost", "localhost:8321", "127.0.0.1:1", "[::1]:8321", "SHOP.local", "[::1]"]
)
async def test_a_request_that_names_this_host_comes_in(ask, name):
    assert (await ask("POST", "/modules/ledger/total_now", host=name)).status == 200


@pytest.mark.parametrize(
    "name",
    [
        *("evil.example", "localhost.evil.example", "", "127.0.0.1.nip.io", "@"),
        *("localhost:1@evil.example", "localhost:x", "localhost:123456", "[::1", "::1]", "a[::1]"),
    ],
)
async def test_a_foreign_host_header_is_refused(ask, name):
    answer = await ask("POST", "/modules/ledger/deposit", {"owner": "ada"}, host=name)
    assert answer.status in (400, 403)


@pytest.mark.parametrize("name", [None, "evil.example", "localhost"])
async def test_a_missing_or_second_host_header_is_refused(server, name):
    line = "" if name is None else f"Host: localhost\r\nHost: {name}\r\n"
    raw = f"POST /modules/ledger/total_now HTTP/1.1\r\n{line}Content-Length: 0\r\n\r\n".encode()
    async with tcp(server) as (reader, writer):
        assert (await exchange(reader, writer, raw)).status in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_request_from_a_foreign_page_is_refused(ask, host, headers):
    answer = await ask("POST", "/modules/ledger/deposit", {"owner": "ada"}, headers)
    assert answer.status == 403
    assert host.ledger.total == 0


async def test_a_page_of_this_host_may_call(ask):
    headers = {"Origin": "http://localhost:8321", "Sec-Fetch-Site": "same-origin"}
    answer = await ask("POST", "/modules/ledger/total_now", b"", headers, host="localhost:8321")
    assert answer.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer \u00e4"},
    ],
)
@pytest.mark.parametrize("path", ["status", "reload", "stop", "nothing"])
async def test_control_over_tcp_needs_the_token(ask, host, stops, headers, path):
    headers = {k: v.encode().decode("latin-1") for k, v in headers.items()}
    answer = await ask("POST", f"/control/{path}", {"modules": ["ledger"]}, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert host.reloads == []
    assert stops == []


async def test_control_over_tcp_works_with_the_token(ask, config):
    from pathlib import Path

    token = (Path(config.data_dir) / "token").read_text().strip()
    answer = await ask("GET", "/control/status", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200
    assert answer.json["modules"][0]["name"] == "ledger"


async def test_over_tcp_a_reload_takes_the_configured_source_only(ask, config, host):
    from pathlib import Path

    token = (Path(config.data_dir) / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    answer = await ask("POST", "/control/reload", {"modules": {"ledger": "/etc/passwd"}}, headers)
    assert answer.status == 403
    assert host.reloads == []
    answer = await ask("POST", "/control/reload", {"modules": {"ledger": None}}, headers)
    assert answer.json["outcome"] == "committed"


def test_what_the_guard_remembers_of_host_headers_is_bounded():
    guard = TcpGuard("127.0.0.1", [], "secret-token")
    for port in range(5_000):
        guard.admit([(b"host", b"localhost:%d" % port)], control=False)
    assert len(guard._seen) <= 1_024
    guard.admit([(b"host", b"LOCALHOST:64999")], control=False)


def test_beyond_loopback_even_calls_need_the_token():
    guard = TcpGuard("0.0.0.0", ["shop.example"], "secret-token")
    with pytest.raises(Refused) as caught:
        guard.admit([(b"host", b"shop.example")], control=False)
    assert caught.value.status == 401
    guard.admit(
        [(b"host", b"shop.example"), (b"authorization", b"Bearer secret-token")], control=False
    )


def test_only_loopback_addresses_count_as_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost", "127.9.9.9")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


def test_the_token_is_kept_private_and_over_restarts(tmp_path):
    token = read_or_make_token(tmp_path)
    path = tmp_path / "token"
    assert len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_token(tmp_path) == token


@pytest.mark.parametrize("spoil", ["readable", "short", "binary"])
def test_a_token_that_others_could_have_read_or_guessed_is_replaced(tmp_path, spoil):
    token = read_or_make_token(tmp_path)
    path = tmp_path / "token"
    if spoil == "readable":
        path.chmod(0o644)
    elif spoil == "short":
        path.write_text("abc")
    else:
        path.write_bytes(b"\xff" * 40)
    assert read_or_make_token(tmp_path) != token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
