"""Rows of files: .jsonl, .json, .parquet. SetupError says which file, and where in it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox_service.errors import SetupError

_FORMS = (".jsonl", ".json", ".parquet")


def read_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers, from 1: the line of a .jsonl, the place in a list or a .parquet."""
    if not path.exists():
        raise SetupError(f"there is no {path}")
    if path.suffix not in _FORMS:
        raise SetupError(f"{path}: rows are read from {', '.join(_FORMS)}")
    if path.suffix == ".parquet":
        pyarrow()
        batches = importlib.import_module("pyarrow.parquet").ParquetFile(path).iter_batches(1000)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
        return
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            if path.suffix == ".json" and file.read(4096).lstrip().startswith("["):
                file.seek(0)
                yield from enumerate(json.load(file), 1)
                return
            file.seek(0)
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, json.loads(line)
    except json.JSONDecodeError as error:
        raise SetupError(f"{path}:{number or error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise SetupError(f"{path}: not UTF-8") from None


def pyarrow() -> Any:
    """The module, which is no dependency; SetupError says so."""
    try:
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise SetupError("parquet needs pyarrow: pip install pyarrow, or use .jsonl") from None
