import asyncio
import ssl

import msgspec
import pytest
import trustme

from replank.config import parse_config
from replank.control.client import Client
from replank.control.server import ControlServer
from replank.errors import ConfigError

from .conftest import bearer, exchange, request


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    return folder


def with_tls(config, **files):
    http = msgspec.structs.replace(config.http, **{k: str(v) for k, v in files.items()})
    return msgspec.structs.replace(config, http=http)


async def connect(server, context):
    port = int(server.contact.http.rpartition(":")[2])
    return await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )


@pytest.mark.parametrize("one_file", [False, True])
async def test_calls_and_control_are_encrypted(host, config, files, authority, one_file):
    named = (
        {"certfile": files / "both.pem"}
        if one_file
        else {"certfile": files / "cert.pem", "keyfile": files / "key.pem"}
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with ControlServer(host, with_tls(config, **named)) as server:
        assert server.contact.http.startswith("https://127.0.0.1:")
        reader, writer = await connect(server, context)
        assert writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
        raw = request("POST", "/modules/ledger/deposit", {"owner": "ada", "cents": 4})
        assert (await exchange(reader, writer, raw)).json == 4
        raw = request("GET", "/control/version", headers=bearer(server))
        assert (await exchange(reader, writer, raw)).json["protocol"] == 1
        writer.close()
        with Client(server.contact) as client:  # the Unix socket is as it was
            assert (await asyncio.to_thread(client.version)).protocol == 1


async def test_plain_http_and_strangers_certificates_get_nowhere(host, config, files):
    tls = with_tls(config, certfile=files / "cert.pem", keyfile=files / "key.pem")
    async with ControlServer(host, tls) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(server.contact.http.rpartition(":")[2])
        )
        writer.write(request("POST", "/modules/ledger/deposit", {"owner": "ada"}))
        assert b"HTTP" not in await reader.read()
        writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server, ssl.create_default_context())
    assert host.ledger.total == 0


async def test_a_client_that_never_shakes_hands_is_let_go(host, config, files):
    tls = with_tls(config, certfile=files / "both.pem")
    http = msgspec.structs.replace(tls.http, head_timeout_s=0.1)
    async with ControlServer(host, msgspec.structs.replace(tls, http=http)) as server:
        port = int(server.contact.http.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ({"certfile": "missing.pem"}, "cannot be used"),
        ({"certfile": "key.pem"}, "cannot be used"),
        ({"certfile": "cert.pem"}, "cannot be used"),
        ({"keyfile": "key.pem"}, "no certfile"),
    ],
)
async def test_files_that_do_not_fit_are_refused_when_the_host_starts(
    host, config, files, named, found
):
    tls = with_tls(config, **{key: files / name for key, name in named.items()})
    server = ControlServer(host, tls)
    with pytest.raises(ConfigError, match=found) as caught:
        await server.start()
    assert "certfile" in caught.value.do
    assert server._doors == []


def test_the_files_are_named_relative_to_the_configuration(tmp_path):
    text = '[modules]\na = "a.py"\n[http]\ncertfile = "tls/cert.pem"\n'
    config = parse_config(text, tmp_path / "replank.toml")
    assert config.http.certfile == str(tmp_path / "tls" / "cert.pem")
    assert config.http.keyfile is None
