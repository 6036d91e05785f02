"""Run by the Python of `.venv-clients`: one session with mcp-taxii, as an assistant has it, over stdio.

Reads `[[tool, arguments], …]` from stdin, writes `[{"value": …} or {"error": …}, …]` to stdout. Nothing of this project
is installed there.
"""

import asyncio
import json
import sys

from fastmcp import Client  # type: ignore[import-not-found,unused-ignore] # it is there where this is run
from fastmcp.client.transports import StdioTransport  # type: ignore[import-not-found,unused-ignore]

# No word to the outside: tests talk to no other machine.
ENVIRONMENT = {"FASTMCP_CHECK_FOR_UPDATES": "off", "FASTMCP_SHOW_SERVER_BANNER": "false"}


async def session(program: str, calls: list[tuple[str, dict[str, object]]]) -> list[dict[str, object]]:
    """Call the tools one after the other."""
    told: list[dict[str, object]] = []
    async with Client(StdioTransport(command=program, args=[], env=ENVIRONMENT)) as client:
        for tool, arguments in calls:
            answer = await client.call_tool(tool, arguments, raise_on_error=False)
            [content] = answer.content
            told.append({"error" if answer.is_error else "value": content.text})
    return told


if __name__ == "__main__":
    json.dump(asyncio.run(session(sys.argv[1], json.load(sys.stdin))), sys.stdout)
