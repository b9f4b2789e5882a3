"""The battery: programs, ways to run them, and what of their output may differ between two runs.

A program is `programs/NAME.py`; `programs/NAME.json` beside it may give `args`, `stdin`, `env` and `files`. Those in
`programs/libraries/` need the packages of the default image. A transport runs one and returns its Outcome; the tests
compare a transport with a plain `python main.py`: `Forked` with `Cold`, `Jailed` with `ColdInImage`.
"""

from __future__ import annotations

import base64
import json
import marshal
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import httpx

from sandbox_service.config import Settings
from sandbox_service.worker.tree import find_base, find_interpreters

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parents[2]
WORK_FOLDER = Path("/tmp/work")
"""Where file systems are mounted, in mount namespaces that see it so; the folder itself stays empty."""
_PATIENCE_S = 40

_found = find_base(find_interpreters(Settings().image_python)).executable
OF_IMAGES = sys.executable if _found == Path(sys.executable).resolve() else str(_found)
"""What images are made from; where that is the base of this environment, the environment's own, whose packages of the
machine do not show."""

# What deploy/jail.cfg gives to every program.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MPLBACKEND": "Agg",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Program:
    name: str
    code: str
    args: list[str] = field(default_factory=list)
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Self:
        extra = PROGRAMS / f"{name}.json"
        return cls(
            name,
            (PROGRAMS / f"{name}.py").read_bytes().decode(),
            **(json.loads(extra.read_text()) if extra.exists() else {}),
        )


class Outcome(NamedTuple):
    status: int
    """The exit code, or minus the signal."""
    stdout: str
    stderr: str

    def normalised(self) -> Outcome:
        return Outcome(self.status, _normalised(self.stdout), _normalised(self.stderr))


Transport = Callable[[Program], Outcome]

_DIFFERS_EACH_TIME = (
    (re.compile(r"0x[0-9a-f]{6,}"), "0xADDRESS"),
    (re.compile(r"/tmp/(tmp|pymp-)\w+"), "/tmp/TEMPORARY"),
    (re.compile(r"\b(pid|PID|process|Process)([ =:]+)\d+"), r"\1\2NUMBER"),
    (
        re.compile(r"\b(Thread|ForkPoolWorker|ForkProcess|SpawnProcess|MainThread started|started)([- ])\d+"),
        r"\1\2NUMBER",
    ),
)


def _normalised(text: str) -> str:
    for pattern, replacement in _DIFFERS_EACH_TIME:
        text = pattern.sub(replacement, text)
    return text


def names() -> list[str]:
    return sorted(path.stem for path in PROGRAMS.glob("*.py"))


def library_names() -> list[str]:
    return sorted(f"libraries/{path.stem}" for path in PROGRAMS.glob("libraries/*.py"))


class Cold:
    """`python main.py` in a new process."""

    def __init__(self, python: str) -> None:
        WORK_FOLDER.mkdir(exist_ok=True)
        self._command = ["unshare", "--mount", "sh", "-c"]
        self._command += ['mount -t tmpfs none /tmp/work && cp -r "$0/." /tmp/work && cd /tmp/work && exec "$@"']
        self._python = python

    def __call__(self, program: Program) -> Outcome:
        done = _run_cold(program, self._command, ["env", "-u", "PWD", "-u", "OLDPWD", self._python])
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


# As close to a slot as a chroot comes: namespaces of its own, a user that is not root, and a pid that is not 1.
_CHROOT = """
R=$1; shift; exec 3>&2 2>/dev/null
mount -t proc proc $R/proc && mount -t tmpfs none $R/tmp && chmod 1777 $R/tmp && mkdir -m 1777 $R/tmp/.shm || exit 125
for d in null zero full random urandom; do mount --bind /dev/$d $R/dev/$d || exit 125; done
cp -r $0 $R/tmp/work && chmod 700 $R/tmp/work && chown -R 1000:1000 $R/tmp/work || exit 125
umask 022
(exec 2>&3 3>&- /usr/sbin/chroot --userspec=1000:1000 --groups= $R env -u PWD -u OLDPWD -C /tmp/work "$@")
exit $?
"""


class ColdInImage:
    """`python main.py` in an image's tree, in a chroot."""

    def __init__(self, tree: Path, python: str) -> None:
        self._command = ["unshare", *("--mount", "--pid", "--fork", "--ipc", "--net", "--uts"), "sh", "-c", _CHROOT]
        self._arguments = [str(tree), python]

    def __call__(self, program: Program) -> Outcome:
        done = _run_cold(program, self._command, self._arguments)
        status = 128 - done.returncode if 128 < done.returncode < 128 + 65 else done.returncode  # as a shell tells it
        return Outcome(status, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _run_cold(program: Program, prefix: list[str], suffix: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run `prefix`, a folder with the program's files, `suffix` and the script's arguments."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as stdin:
        for path, content in {**program.files, "main.py": program.code}.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode())
        stdin.write(program.stdin.encode())
        stdin.seek(0)
        return subprocess.run(
            [*prefix, folder, *suffix, "main.py", *program.args],
            stdin=stdin if program.stdin else subprocess.DEVNULL,
            capture_output=True,
            env=ENVIRONMENT | program.env,
            timeout=_PATIENCE_S,
        )


class Forked:
    """A child of a zygote without a jail (`zygote_for_tests.py`)."""

    def __init__(self, python: str, modules: list[str], warm_up: str = "") -> None:
        WORK_FOLDER.mkdir(exist_ok=True)
        self._zygote = subprocess.Popen(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *(python, "-m", "tests.inside.zygote_for_tests"),
                json.dumps({"modules": modules, "warm_up": warm_up}),
            ],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.stdout.close()
        self._zygote.wait(10)

    def __call__(self, program: Program, **options: object) -> Outcome:
        status, stdout, stderr, _ = self.run(program, options)
        return Outcome(
            os.waitstatus_to_exitcode(status), stdout.decode(errors="replace"), stderr.decode(errors="replace")
        )

    def run(self, program: Program, options: Mapping[str, object]) -> tuple[int, bytes, bytes, int]:
        """Return the raw wait status, standard output, standard error and the number of minor page faults."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        job = {
            "code": program.code,
            "args": program.args,
            "env": program.env,
            "files": {path: content.encode() for path, content in program.files.items()},
            "show_last_value": False,
            "seed": None,
            **options,
        }
        marshal.dump((tuple(job.values()), program.stdin.encode()), self._zygote.stdin)
        self._zygote.stdin.flush()
        answer: tuple[int, bytes, bytes, int] = marshal.load(self._zygote.stdout)
        return answer


class Jailed:
    """A call to a running service."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_PATIENCE_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def __call__(self, program: Program, **options: object) -> Outcome:
        call = {
            "code": program.code,
            "args": program.args,
            "stdin": program.stdin,
            "env": program.env,
            "files": {path: base64.b64encode(content.encode()).decode() for path, content in program.files.items()},
            "limits": {"output_kb": 2048, "processes": 64, "wall_s": 30},
            **options,
        }
        answer = self._client.post("/v1/calls", json=call)
        assert answer.status_code == httpx.codes.OK, answer.text
        result = answer.json()
        assert result["status"] in ("ok", "failed", "signaled"), result
        status = result["exit_code"] if result["signal"] is None else -_signal_number(result["signal"])
        return Outcome(status, result["stdout"], result["stderr"])


def _signal_number(told: str | int) -> int:
    return signal.Signals[told].value if isinstance(told, str) else told


def describe(outcome: Outcome) -> str:
    end = signal.Signals(-outcome.status).name if outcome.status < 0 else outcome.status
    return f"status {end}\n--- stdout\n{outcome.stdout}\n--- stderr\n{outcome.stderr}"


def main() -> None:
    """Compare by hand: `python -m tests.inside.battery PYTHON MODULES [NAME...]`."""
    python, modules, *chosen = sys.argv[1:]
    cold = Cold(python)
    with Forked(python, modules.split(",") if modules else []) as forked:
        differing = 0
        for name in chosen or names():
            program = Program.load(name)
            expected, got = cold(program).normalised(), forked(program).normalised()
            if expected != got:
                differing += 1
                print(f"===== {name}\n[cold] {describe(expected)}\n[fork] {describe(got)}")
        print(f"{differing} of {len(chosen or names())} differ")


if __name__ == "__main__":
    main()
