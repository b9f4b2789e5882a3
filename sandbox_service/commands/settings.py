"""`config`: every setting with its variable, value, default and meaning."""

from __future__ import annotations

import json
import shutil
import sys
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from sandbox_service.config import Settings, unknown_variables

_FILE_WIDTH = 200
_LEAST_WIDTH = 80
"""Room for the longest variable beside the rest; a narrower terminal wraps the lines itself."""


def show(settings: Settings, *, as_json: bool) -> int:
    _note_unknown()
    values = settings.model_dump(mode="json")
    values["redis_url"] = _without_password(settings.redis_url)
    rows = [
        {
            "name": name,
            "variable": f"SANDBOX_{name.upper()}",
            "value": values[name],
            "default": _plain(field.default),
            "description": field.description or "",
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    table = Table(title="Settings, read from the environment")
    table.add_column("variable", no_wrap=True, min_width=max(len(row["variable"]) for row in rows))
    for column in ("value", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for row in rows:
        changed = row["value"] != row["default"]
        table.add_row(row["variable"], _text(row["value"], bold=changed), _text(row["default"]), row["description"])
    width = shutil.get_terminal_size((_FILE_WIDTH, 0)).columns  # COLUMNS, the terminal's, or that of a file
    Console(width=max(width, _LEAST_WIDTH)).print(table)
    return 0


def _plain(default: object) -> object:
    return (
        list(default)
        if isinstance(default, tuple)
        else default
        if isinstance(default, int | float)
        else default and str(default)
    )


def _text(value: object, *, bold: bool = False) -> str:
    if isinstance(value, float):
        value = f"{value:g}"
    text = "-" if value in (None, []) else ",".join(value) if isinstance(value, list) else str(value)
    return f"[bold]{text}[/bold]" if bold else text


def _note_unknown() -> None:
    """What nothing reads is not in force, and `serve` would refuse it."""
    for name, meant in unknown_variables().items():
        print(f"note: no setting is called {name}" + (f"; did you mean {meant}?" if meant else ""), file=sys.stderr)


def _without_password(url: str | None) -> str | None:
    parts = urlsplit(url or "")
    return url.replace(f":{parts.password}@", ":***@") if url and parts.password else url
