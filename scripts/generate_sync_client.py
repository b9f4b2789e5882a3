"""Write `sandbox_service/client/_sync.py`, the blocking twin of `_async.py`.

python scripts/generate_sync_client.py            writes the file
python scripts/generate_sync_client.py --check    exits 1 if the file is not what would be written
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent / "sandbox_service" / "client"
HEADER = "# Generated from _async.py by scripts/generate_sync_client.py. Do not edit.\n"

REPLACEMENTS = [
    (r"# The blocking twin is .*\n\n", ""),
    (r"import asyncio\n", "import queue\n"),
    (r"asyncio\.Queue", "queue.SimpleQueue"),
    (r"_loops import PerLoop", "_thread import InThread"),
    (r"PerLoop", "InThread"),
    (r"\b(async|await) ", ""),
    (r"AsyncIterator", "Iterator"),
    (r"AsyncSandboxClient", "SandboxClient"),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"Close it in each event loop that used it \(`with`\s+does\); used there again,", "Closed (`with` does),"),
]


def generate() -> str:
    text = (CLIENT / "_async.py").read_text()
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    for polish in (["check", "--fix-only", "--quiet", "--select=I"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *polish, f"--stdin-filename={CLIENT / '_sync.py'}", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return HEADER + text


def main() -> int:
    target = CLIENT / "_sync.py"
    if "--check" in sys.argv[1:]:
        return 0 if target.read_text() == generate() else 1
    target.write_text(generate())
    return 0


if __name__ == "__main__":
    sys.exit(main())
