"""`mcp`: the options of the MCP server."""

from __future__ import annotations

import argparse

from sandbox_service import mcp_server
from sandbox_service.commands.parser import default_url
from sandbox_service.commands.run import read_key
from sandbox_service.errors import SetupError


def mcp(options: argparse.Namespace) -> int:
    try:
        asked = mcp_server.Options(
            urls=options.url or [default_url()],
            api_key=read_key(options.api_key_file),
            wall_s=options.wall_s,
            image=options.image,
            timeout_s=options.timeout_s,
            max_chars=options.max_chars,
        )
        mcp_server.serve(asked, options.http)
    except ValueError as error:  # an address that is none
        raise SetupError(str(error)) from error
    return 0
