"""Write the Python code of `sandbox_service/proto/sandbox.proto`, beside it.

python scripts/generate_proto.py            writes the files
python scripts/generate_proto.py --check    exits 1 if a file is not what would be written
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("sandbox_service", "proto")
OUTPUTS = ("sandbox_pb2.py", "sandbox_pb2.pyi", "sandbox_pb2_grpc.py")


def generate() -> dict[Path, str]:
    """Return the text of each file by its path."""
    with tempfile.TemporaryDirectory() as folder:
        kinds = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
        if protoc.main(["protoc", f"-I{ROOT}", *kinds, str(FOLDER / "sandbox.proto")]):
            raise SystemExit("protoc refused sandbox.proto; it says why above")
        return {ROOT / FOLDER / name: Path(folder, FOLDER, name).read_text() for name in OUTPUTS}


def main() -> int:
    written = generate()
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text() != text for path, text in written.items()))
    for path, text in written.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
