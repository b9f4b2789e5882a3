"""Reading ELF files, against what the dynamic loader itself says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sandbox_service.worker import elf


def test_reads_what_a_program_needs() -> None:
    """The direct needs are among those that the loader finds, and the loader is the one that runs it."""
    shell = Path("/bin/sh").resolve()
    listed = subprocess.run(["ldd", shell], capture_output=True, text=True, check=True).stdout
    read = elf.read(shell)
    assert read is not None
    assert read.needed
    assert set(read.needed) <= set(re.findall(r"^\s*(\S+) =>", listed, re.MULTILINE))
    assert read.loader is not None
    assert read.loader in listed


def test_other_files_are_not_elf(tmp_path: Path) -> None:
    empty, text, cut = tmp_path / "empty", tmp_path / "text", tmp_path / "cut"
    empty.touch()
    text.write_text("#!/bin/sh\n" * 20)
    cut.write_bytes(Path("/bin/sh").read_bytes()[:200])
    assert [elf.read(path) for path in (empty, text, cut)] == [None, None, None]
