"""The page on MCP servers, with the official client: tools change under an open session."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "mcp-server.md"
LIMIT_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page."""
    for block in blocks(PAGE):
        if block.mark == "file":
            (tmp_path / block.argument).write_text(block.text)
    return tmp_path


async def test_a_tool_is_added_under_an_open_session_and_the_notes_stay(folder: Path) -> None:
    pytest.importorskip("mcp", reason="the SDK is not there: requirements/optional.txt")
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    parameters = StdioServerParameters(command=sys.executable, args=["server.py"], cwd=folder)
    tools = folder / "tools.py"
    async with asyncio.timeout(LIMIT_S), Client(stdio_client(parameters)) as client:

        async def use(name: str, **arguments: str) -> tuple[str, bool]:
            answer = await client.call_tool(name, arguments)
            return answer.content[0].text, answer.is_error

        async def names() -> list[str]:
            return [one.name for one in (await client.list_tools()).tools]

        assert await names() == ["remember", "recall"]
        assert await use("remember", key="tea", text="green") == ("1", False)
        async with client.listen(tools_list_changed=True) as changes:
            tools.write_text(f"{tools.read_text()}\n\n{(folder / 'more.py').read_text()}")
            await anext(aiter(changes))
        assert await names() == ["remember", "recall", "forget"]
        shown = (await client.list_tools()).tools[-1]
        assert shown.description == "Drop a note."
        assert shown.input_schema["properties"] == {"key": {"type": "string"}}
        assert shown.input_schema["required"] == ["key"]
        assert await use("recall", key="tea") == ('"green"', False)
        assert await use("forget", key="tea") == ("null", False)
        assert await use("recall", key="tea") == ("KeyError: 'tea'", True)


async def test_a_client_of_the_older_protocol_finds_the_tools_too(folder: Path) -> None:
    pytest.importorskip("mcp", reason="the SDK is not there: requirements/optional.txt")
    from mcp.client.client import Client
    from mcp.client.stdio import StdioServerParameters, stdio_client

    parameters = StdioServerParameters(command=sys.executable, args=["server.py"], cwd=folder)
    async with asyncio.timeout(LIMIT_S), Client(stdio_client(parameters), mode="legacy") as client:
        assert len((await client.list_tools()).tools) == 2
        answer = await client.call_tool("recall", {"wrong": "x"})
        assert answer.is_error
        assert "unexpected keyword argument" in answer.content[0].text
