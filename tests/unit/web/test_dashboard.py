"""The page at the door: who gets it, with which policy, and what it may ask."""

import re
from importlib import resources

import pytest

from replank.control.server import ControlServer
from replank.web.dashboard import Dashboard
from tests.unit.control.conftest import ask, config, exchange, host, request, stops, tcp  # noqa: F401

STATIC = resources.files("replank.web").joinpath("static")


@pytest.fixture
async def server(host, config):  # noqa: F811
    async with ControlServer(host, config, around=Dashboard(host).around) as server:
        yield server


@pytest.fixture
def bearer(server, config):  # noqa: F811
    from pathlib import Path

    token = (Path(config.data_dir) / "token").read_text().strip()
    return {"Authorization": f"Bearer {token}"}


async def test_the_page_and_its_files_are_given_without_a_token(ask):  # noqa: F811
    page = await ask("GET", "/dashboard")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    for path in re.findall(rb'(?:src|href)="(/[^"]+)"', page.body):
        answer = await ask("GET", path.decode())
        assert answer.status == 200, path


async def test_everything_a_script_imports_is_among_the_files():
    names = {file.name for file in STATIC.iterdir()}
    for file in STATIC.iterdir():
        if file.name.endswith(".js"):
            imported = re.findall(r'from "\./([\w.]+)"', file.read_text("utf-8"))
            assert set(imported) <= names


async def test_the_page_may_load_nothing_from_elsewhere(ask):  # noqa: F811
    policy = (await ask("GET", "/dashboard")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    for file in STATIC.iterdir():
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        assert "innerHTML" not in text
        assert "style=" not in text


@pytest.mark.parametrize(
    ("headers", "host_name"),
    [
        ({}, "evil.example"),
        ({"Origin": "http://evil.example"}, "localhost"),
        ({"Sec-Fetch-Site": "cross-site"}, "localhost"),
    ],
)
async def test_a_foreign_page_gets_nothing(ask, headers, host_name):  # noqa: F811
    answer = await ask("GET", "/dashboard", headers=headers, host=host_name)
    assert answer.status == 403


async def test_what_is_true_now_needs_the_token(ask, bearer):  # noqa: F811
    assert (await ask("GET", "/dashboard/now")).status == 401
    wrong = {"Authorization": "Bearer wrong"}
    assert (await ask("GET", "/dashboard/now", headers=wrong)).status == 401
    answer = await ask("GET", "/dashboard/now", headers=bearer)
    assert answer.status == 200
    assert answer.json["status"]["modules"][0]["name"] == "ledger"


async def test_calls_over_http_are_timed(ask, bearer):  # noqa: F811
    assert (await ask("POST", "/modules/ledger/deposit", {"owner": "ada"})).status == 200
    assert (await ask("POST", "/modules/ledger/overdraw", {})).status == 500
    ticks = (await ask("GET", "/dashboard/now?after=0", headers=bearer)).json["ticks"]
    assert sum(one["calls"] for one in ticks) == 2
    assert sum(one["failed"] for one in ticks) == 1
    assert all(0 < one["typical_s"] <= one["longest_s"] for one in ticks)


@pytest.mark.parametrize("query", ["after=x", "before=3", "after=-1", "after=" + "9" * 40])
async def test_a_wrong_question_is_refused(ask, bearer, query):  # noqa: F811
    assert (await ask("GET", f"/dashboard/now?{query}", headers=bearer)).status == 422


@pytest.mark.parametrize("path", ["/dashboard/none", "/dashboard/../token", "/dashboard/x/app.js"])
async def test_what_is_no_file_of_the_page_does_not_exist(ask, path):  # noqa: F811
    assert (await ask("GET", path)).status == 404


async def test_the_page_takes_no_orders(ask):  # noqa: F811
    assert (await ask("POST", "/dashboard")).status == 405


async def test_a_host_without_dashboard_has_no_page(host, config):  # noqa: F811
    async with ControlServer(host, config) as plain, tcp(plain) as (reader, writer):
        answer = await exchange(reader, writer, request("GET", "/dashboard"))
    assert answer.status == 404
