"""The command line: it teaches, and it never shows a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox_service.cli import main
from sandbox_service.commands.parser import default_url, parser
from sandbox_service.commands.run import _call
from sandbox_service.config import Settings, unknown_variables
from sandbox_service.models import CODE_BYTES, Limits

COMMANDS = [
    "serve",
    "gateway",
    "worker",
    "run",
    "rootfs",
    "rootfs build",
    "rootfs info",
    "rootfs prune",
    "dead-letters",
    "dead-letters list",
    "dead-letters show",
    "dead-letters replay",
    "doctor",
    "config",
]


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    assert all(command.split()[0] in told for command in COMMANDS)
    assert "examples:" in told


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_how_to_add_packages_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["rootfs", "build", "--help"])
    told = capsys.readouterr().out
    assert "--requirements ml.txt" in told
    assert '"image": "ml"' in told


def test_an_invalid_setting_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_PORT", "99999")
    assert main(["config"]) == 2
    assert "SANDBOX_PORT=99999" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "port"), [("8426", 8426), ("", 8000), ("0", 8000), ("tcp://10.0.0.1:80", 8000), ("80%20", 8000)]
)
def test_commands_ask_where_serve_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, port: int
) -> None:
    """If SANDBOX_PORT is a port."""
    monkeypatch.setenv("SANDBOX_PORT", given)
    assert default_url() == f"http://127.0.0.1:{port}"
    with pytest.raises(SystemExit):
        main(["mcp", "--help"])
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().out


def test_one_call_goes_to_one_gateway(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.py").write_text("print(1)")
    assert main(["run", str(tmp_path / "one.py"), "--url", "http://a", "--url", "http://b"]) == 2
    assert "give --url once" in capsys.readouterr().err


def test_a_default_that_no_call_would_get_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be lowered to the maximum without a word; a maximum alone lowers our own default."""
    monkeypatch.setenv("SANDBOX_MAX_WALL_S", "5")
    assert Settings().resolve(Limits())[0].wall_s == 5
    monkeypatch.setenv("SANDBOX_DEFAULT_WALL_S", "120")
    assert main(["serve"]) == 2
    told = capsys.readouterr().err
    assert "SANDBOX_DEFAULT_WALL_S=120.0: is more than SANDBOX_MAX_WALL_S, which is 5.0" in told


@pytest.mark.parametrize(
    ("variable", "given", "told"),
    [
        ("PORT", "abc", "must be a whole number"),
        ("LOG_LEVEL", "INFO", "must be 'debug', 'info', 'warning' or 'error'"),
        ("REDIS_PREFIX", "a:b", "must be one or more of the characters A-Za-z0-9_-"),
        ("SLOTS", "-1", "must be greater than or equal to 0"),
    ],
)
def test_a_setting_is_refused_in_plain_words(
    variable: str, given: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"SANDBOX_{variable}", given)
    assert main(["config"]) == 2
    assert capsys.readouterr().err.splitlines()[1:] == [f"  SANDBOX_{variable}={given}: {told}"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--folder /nowhere", "--folder /nowhere: there is no model"),
        ("--endpoint nowhere --model m", "--endpoint nowhere: must be a URL, as in http://"),
        ("--model m", "say which model: --endpoint URL or --folder PATH"),
        ("--folder /tmp --turns 0", "--turns: must be a whole number from 1 on, not '0'"),
        ("--folder /tmp --wall-s 0", "--wall-s: must be more than 0"),
        ("--folder /tmp --limit -1", "--limit: must be a whole number from 1 on, not '-1'"),
    ],
)
def test_eval_names_the_option_that_is_wrong(given: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a model is loaded, or every sample is lost."""
    try:
        code = main(["eval", "--data", "questions.jsonl", *given.split()])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert told in capsys.readouterr().err


def test_http_and_grpc_need_a_port_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is started, and not by the one of them that comes second."""
    assert main(["serve", "--port", "8426", "--grpc-port", "8426"]) == 2
    assert "SANDBOX_PORT and SANDBOX_GRPC_PORT are both 8426" in capsys.readouterr().err
    monkeypatch.setenv("SANDBOX_GRPC_PORT", "0")
    assert Settings(port=0).grpc_port == 0


def test_spaces_between_profiles_are_no_part_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_PROFILES", "bare, numpy,")
    assert Settings().profiles == ("bare", "numpy")


def test_dead_letters_say_that_no_service_runs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SANDBOX_REDIS_URL", raising=False)
    monkeypatch.setenv("SANDBOX_RUN_DIR", str(tmp_path))
    assert main(["dead-letters", "list"]) == 2
    assert "no `sandbox-service serve` is running here" in capsys.readouterr().err


def test_an_image_that_is_not_there_cannot_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And how to build it is not what was asked for."""
    monkeypatch.setenv("SANDBOX_STATE_DIR", str(tmp_path))
    assert main(["rootfs", "prune", "ml"]) == 2
    assert capsys.readouterr().err == "sandbox-service: there is no image 'ml' to give up; there is none\n"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("sreve", "there is no 'sreve'; did you mean serve?"),
        ("rootfs bild", "there is no 'bild'; did you mean build?"),
        ("serve --prot 80", "there is no place for --prot; did you mean --port?"),
        ("serve --grpcport=80", "there is no place for --grpcport=80; did you mean --grpc-port?"),
        ("nothing-like-it", "there is no 'nothing-like-it'; choose from serve, gateway, worker,"),
        ("run a.py b.py", "there is no place for b.py"),
    ],
)
def test_what_may_be_meant_is_named(given: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(given.split())
    assert stopped.value.code == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_a_lone_part_asks_for_redis(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SANDBOX_REDIS_URL", raising=False)
    assert main([part]) == 2
    assert "SANDBOX_REDIS_URL" in capsys.readouterr().err


def test_config_lists_every_setting_and_hides_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `config` prints may be pasted into a bug report."""
    monkeypatch.setenv("SANDBOX_REDIS_URL", "redis://user:hunter2@redis.internal:6379")
    assert main(["config", "--json"]) == 0
    told = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(told)}
    assert set(rows) == set(Settings.model_fields)
    assert all(row["description"] for row in rows.values())
    assert rows["redis_url"]["value"] == "redis://user:***@redis.internal:6379"
    assert "hunter2" not in told


def test_the_config_table_names_every_variable_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    told = capsys.readouterr().out
    assert all(f"SANDBOX_{name.upper()}" in told for name in Settings.model_fields)


@pytest.mark.parametrize("columns", ["20", "80", "120"])
def test_variables_are_whole_on_any_terminal(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The descriptions wrap instead; also where the output is piped, COLUMNS is heeded."""
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["config"]) == 0
    told = capsys.readouterr().out
    assert all(f" SANDBOX_{name.upper()} " in told for name in Settings.model_fields)
    assert max(map(len, told.splitlines())) <= max(80, int(columns))


@pytest.mark.parametrize("command", ["config", "config --json", "rootfs info"])
def test_a_reader_that_goes_away_is_no_error(command: str) -> None:
    """`sandbox-service config | head -1` ends without a traceback."""
    command = f"{sys.executable} -m sandbox_service {command} | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


@pytest.mark.parametrize("command", ["config", "config --json"])
def test_output_that_cannot_be_written_is_told(command: str) -> None:
    command = f"{sys.executable} -m sandbox_service {command} >/dev/full"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "sandbox-service: standard output: No space left on device\n")


def test_run_says_when_nothing_answers_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only for an address of this machine a service is started."""
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    assert main(["run", str(program), "--url", "http://127.0.0.2:9"]) == 1
    assert "nothing answers at http://127.0.0.2:9" in capsys.readouterr().err


def test_run_starts_no_service_where_plain_http_answers_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "a.py"
    program.write_text("print(1)")
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert main(["run", "--url", f"https://127.0.0.1:{server.server_port}", str(program)]) != 0
        server.shutdown()
    assert f"does not speak TLS; use http://127.0.0.1:{server.server_port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "given", "told"),
    [
        ("--wall-s", "-1", "must be greater than 0"),
        ("--timeout-s", "0", "must be greater than 0"),
        ("--image", "a/b", "must be 1 to 64 of the characters A-Za-z0-9_-"),
    ],
)
def test_run_names_the_option_that_is_wrong(
    option: str, given: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its help says, with exit code 2: the service was not asked."""
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    assert main(["run", str(program), option, given]) == 2
    assert capsys.readouterr().err == f"sandbox-service: {option}: {told}\n"


def test_run_names_the_file_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "p.py"
    program.write_text("#" * (CODE_BYTES + 1))
    assert main(["run", str(program)]) == 2
    assert f"{program}: is {CODE_BYTES + 1} bytes long" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "told"), [("", "is empty: the API key should be in it"), ("two words", "api_key has a space")]
)
def test_run_refuses_a_key_that_is_none(
    key: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it asks the service, or starts one."""
    program, file = tmp_path / "p.py", tmp_path / "key"
    program.write_text("print(1)")
    file.write_text(f"{key}\n")
    assert main(["run", str(program), "--api-key-file", str(file)]) == 2
    assert told in capsys.readouterr().err


def test_run_says_that_nothing_answers_over_grpc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a URL like any other, and nobody at a terminal waits for a minute."""
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    begun = time.monotonic()
    assert main(["run", str(program), "--url", "grpc://127.0.0.1:9"]) == 1
    assert time.monotonic() - begun < 20
    assert "no answer from grpc://127.0.0.1:9" in capsys.readouterr().err


def test_a_repeat_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Where it tries, and why again, each once; what a service says of itself comes with its address."""
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    command = [sys.executable, "-m", "sandbox_service", "run", str(program), "--url", "grpc://127.0.0.1:9"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    first = run.stderr.splitlines()[0]
    assert first.startswith("no answer from grpc://127.0.0.1:9: ")
    assert first.endswith("; trying again")
    assert first.count("no answer") == first.count("grpc://") == 1


def test_run_passes_text_as_it_is(tmp_path: Path) -> None:
    """A carriage return of a program or its input is not ours to change."""
    program, text = tmp_path / "p.py", tmp_path / "text"
    program.write_bytes(b"print(1)\r\n")
    text.write_bytes("a\r\nb\rc\n\x00ü".encode())
    options = parser().parse_args(["run", str(program), "--stdin", str(text)])
    call = _call(options)
    assert (call.code, call.stdin) == ("print(1)\r\n", "a\r\nb\rc\n\x00ü")


def test_run_says_that_input_is_not_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, text = tmp_path / "p.py", tmp_path / "text"
    program.write_text("print(1)")
    text.write_bytes(b"ab\xff")
    assert main(["run", str(program), "--stdin", str(text)]) == 2
    assert f"{text} is not UTF-8 (byte 2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "localhost", "ftp://localhost", "", "http://", "http://h:x", "grpc://"]
)
def test_run_asks_for_a_whole_url(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    assert main(["run", str(program), "--url", url]) == 2
    assert f"{url!r} is not the address of a service" in capsys.readouterr().err


def test_a_refused_gateway_says_why_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line for whoever started it, not in a log's."""
    monkeypatch.setenv("SANDBOX_REDIS_URL", "redis://127.0.0.1:9")
    command = [sys.executable, "-m", "sandbox_service", "gateway"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert line.startswith("sandbox-service: no Redis at redis://127.0.0.1:9")
    assert ".." not in line


def test_a_redis_url_that_is_none_is_shown_as_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_REDIS_URL", "bogus")
    assert main(["doctor"]) == 1
    assert "SANDBOX_REDIS_URL 'bogus' is not valid" in capsys.readouterr().out


def test_run_says_that_a_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none.py")]) == 2
    assert "none.py" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../../evil", "a/b", "", ".", "ml.v1", "a" * 65, "ml\n"])
def test_an_image_cannot_be_named_like_a_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name is refused before anything is built or written."""
    monkeypatch.setenv("SANDBOX_STATE_DIR", str(tmp_path / "state"))
    assert main(["rootfs", "build", "--bare", "--name", name]) == 2
    assert f"{name!r} is no name for an image" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "port"), [([], "8000"), (["SANDBOX_PORT=8426"], "8426"), (["SANDBOX_PORT=8426", "PORT=9"], "9")]
)
def test_make_up_takes_the_port_of_the_environment(given: list[str], port: str) -> None:
    root = Path(__file__).parents[2]
    environment = {"PATH": os.environ["PATH"], **dict(each.split("=") for each in given)}
    ran = subprocess.run(["make", "-n", "up"], cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert f"serve --port {port}\n" in ran.stdout


@pytest.mark.parametrize("command", ["serve", "gateway", "worker"])
def test_a_misspelt_setting_is_refused_and_the_right_one_is_named(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or a service that was meant to ask for keys would be open, and nobody would be told."""
    monkeypatch.setenv("SANDBOX_API_KEY_FILE", "/etc/keys")
    monkeypatch.setenv("sandbox_zzzzz", "1")
    assert main([command]) == 2
    told = capsys.readouterr().err
    assert "SANDBOX_API_KEY_FILE (did you mean SANDBOX_API_KEYS_FILE?)" in told
    assert "\n  sandbox_zzzzz\n" in told
    assert "/etc/keys" not in told


def test_settings_and_variables_of_others_are_not_taken_for_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case of letters; of others are Kubernetes', SandboxFusion's clients' and our scripts'."""
    for name in os.environ:
        if name.upper().startswith("SANDBOX_"):
            monkeypatch.delenv(name)
    ours = {f"SANDBOX_{name.upper()}" for name in Settings.model_fields} | {"sandbox_slots"}
    kubernetes = "SERVICE_HOST", "GATEWAY_SERVICE_PORT_HTTP", "GATEWAY_PORT_8000_TCP_ADDR"
    others = {f"SANDBOX_{name}" for name in ("FUSION_ENDPOINT", "TEST_CACHE", *kubernetes)}
    for name in ours | others:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SANDBOX_GATEWAY_PORT", "tcp://10.0.0.1:8000")
    assert unknown_variables() == {}
    monkeypatch.setenv("SANDBOX_GATEWAY_PORT", "8000")
    assert unknown_variables().keys() == {"SANDBOX_GATEWAY_PORT"}


def test_config_names_variables_that_nothing_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who asks what is in force learns that this is not."""
    monkeypatch.setenv("SANDBOX_PROT", "9000")
    assert main(["config", "--json"]) == 0
    told = capsys.readouterr()
    assert "no setting is called SANDBOX_PROT; did you mean SANDBOX_PORT?" in told.err
    assert json.loads(told.out)


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [(["mcp"], "uvicorn", "mcp"), (["mcp"], "mcp", "mcp"), (["gateway"], "uvicorn", "server")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(command: list[str], missing: str, extra: str) -> None:
    """uvicorn is a package of both; whoever asked for `mcp` needs no server."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\nfrom sandbox_service.cli import main; sys.exit(main({command}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 2
    assert f"`{command[0]}` needs the packages of `{extra}` ({missing} is missing)" in ran.stderr
    # This checkout is the one in use, and stays it.
    assert f"{sys.executable} -m pip install -e '{Path(__file__).parents[2]}[{extra}]'" in ran.stderr


def test_run_asks_for_the_service_before_it_asks_for_packages(tmp_path: Path) -> None:
    """Where only the client is installed, a wrong port is the likelier slip than a missing server."""
    program = tmp_path / "p.py"
    program.write_text("print(1)")
    main = f"from sandbox_service.cli import main; sys.exit(main(['run', {str(program)!r}, '--url', 'http://127.0.0.1:9']))"
    hidden = f"import sys; sys.modules['structlog'] = None\n{main}"
    ran = subprocess.run([sys.executable, "-c", hidden], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 1
    assert "nothing answers at http://127.0.0.1:9: is the service running there?" in ran.stderr
    assert "structlog is missing" in ran.stderr


@pytest.mark.parametrize("command", ["run", "mcp", "eval"])
def test_a_client_looks_where_serve_would_listen(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_PORT", "8426")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "http://127.0.0.1:8426" in capsys.readouterr().out


def test_a_lone_gateway_takes_the_addresses_that_serve_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SANDBOX_REDIS_URL", "redis://127.0.0.1:9")
    assert main(["gateway", "--port", "-1"]) == 2
    assert "SANDBOX_PORT=-1" in capsys.readouterr().err
