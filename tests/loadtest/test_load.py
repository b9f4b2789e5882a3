"""The load test measures what it says: a small run of it, and its parts where a mistake would flatter."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from rich.progress import Progress

from loadtest.load import cost, pace, report, samples, traffic
from loadtest.load.__main__ import TRIES, measure, measured_before
from loadtest.load.bench import QUICK, Bench
from loadtest.load.crowd import Outcome
from loadtest.load.drive import Driver, Plan, Record, Transport
from loadtest.load.step import THINK_S, schedule
from sandbox_service.embedded import die_with
from sandbox_service.models import Result, Status

RESULT = Result(id="a", status=Status.OK, stdout="1\n").model_dump_json().encode()
ROOT = Path(__file__).resolve().parents[2]


async def slow_server(pause_s: float) -> tuple[asyncio.Server, str]:
    """A service that answers one request after the other, each after a pause."""
    turn = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            async with turn:
                await asyncio.sleep(pause_s)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(RESULT), RESULT))

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_open_loop_counts_the_wait_of_those_that_a_slow_service_holds_up() -> None:
    """Ten calls due at once at a service that takes 50 ms each: the last one waited half a second, and it is told.
    A generator that waits for answers before it sends would have told 50 ms for each (coordinated omission)."""
    server, url = await slow_server(0.05)
    shots = traffic.shots("print", 10)
    plan = Plan((url,), Transport.SINGLE, 1, due_s=[0.0] * 10)
    record = await Driver(plan, shots, time.monotonic(), lambda _: None).run()
    server.close()
    latencies = sorted(done - due for done, due in zip(record.done, record.due, strict=True))
    assert len(latencies) == 10
    assert latencies[-1] >= 0.5
    assert latencies[4] >= 0.25
    assert record.faults == []


def test_a_machine_that_becomes_slower_meanwhile_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours on the same hardware are in no account of busy time; figures with and without them do not compare."""
    clock = itertools.count(0.0, 0.5)
    monkeypatch.setattr(pace.time, "monotonic", lambda: next(clock))
    alone, beside = pace.Pace(), pace.Pace()
    for seen, work_s in ((alone, 0.001), (beside, 0.0012)):
        times = itertools.cycle((0.0, work_s))
        monkeypatch.setattr(pace.time, "thread_time", lambda times=times: next(times))
        for _ in range(20):
            seen.sample()
    assert beside.work_ms == pytest.approx(1.2)
    assert pace.is_alike(alone.work_ms, alone.work_ms)
    assert not pace.is_alike(alone.work_ms, beside.work_ms)
    assert not pace.is_alike(beside.work_ms, alone.work_ms)


def test_what_is_not_valid_is_measured_again_and_what_is_wrong_is_kept() -> None:
    """Three tries at most; a lost call ends them, so that no fault is measured away."""
    good, void = {"part": {"valid": True}}, {"part": {"valid": False}}
    lost = {"part": {"valid": False, "answered": 1, "lost": 1}}
    bench = Bench(QUICK, Progress(disable=True))
    for found, kept, at in (
        ([good], good, 1),
        ([void, good], good, 2),
        ([void, lost, good], lost, 2),
        ([void, void, void, good], void, 3),
    ):
        following = iter(found)
        assert measure(lambda _, following=following: next(following), bench, TRIES) == (kept, at)


def test_what_is_valid_or_wrong_is_not_measured_again_at_its_commit(tmp_path: Path) -> None:
    """So a run that was interrupted, or is not valid in a part, goes on where it has to."""
    section = tmp_path / "step.json"
    asked = {"commit": "abc", "quick": False}
    assert not measured_before(section, asked)
    for valid, commit, is_enough in ((True, "abc", True), (True, "def", False), (False, "abc", False)):
        section.write_text(json.dumps({"commit": commit, "quick": False, "found": {"valid": valid}}))
        assert not measured_before(section, asked | {"quick": True})
        assert measured_before(section, asked) is is_enough
    section.write_text(
        json.dumps({"commit": "abc", "quick": False, "found": {"valid": False, "answered": 1, "lost": 1}})
    )
    assert measured_before(section, asked)
    assert not measured_before(section, asked | {"workload": "blend"})


def test_the_blend_is_the_mix_that_the_bursts_promise() -> None:
    """Code with a 95th percentile of 2 KB or more, 5 % with 64 KB of output, 5 % that time out; all is checked."""
    shots = traffic.shots("blend", 8_000, seed=1)
    assert shots == traffic.shots("blend", 8_000, seed=1)
    codes = sorted(len(json.loads(shot.body)["code"]) for shot in shots)
    assert codes[int(0.95 * len(codes))] >= 2_048
    statuses = Counter(shot.status for shot in shots)
    assert statuses.keys() == {"ok", "timed_out"}
    assert 0.04 < statuses["timed_out"] / len(shots) < 0.06
    floods = {shot.body for shot in traffic._kinds_of_blend()["flood"]}
    assert 0.04 < sum(shot.body in floods for shot in shots) / len(shots) < 0.06
    assert all(shot.stdout_sha256 for shot in shots if shot.status == "ok")


async def test_a_wrong_answer_and_no_answer_are_told() -> None:
    """An output that is not the expected one, and a connection that nobody takes."""
    server, url = await slow_server(0)
    wrong = traffic.Shot(b"{}", "ok", traffic.workload.sha256("2\n"))
    record = await Driver(Plan((url,), Transport.SINGLE, 1), [wrong], time.monotonic(), lambda _: None).run()
    server.close()
    assert "wrong output" in record.faults[0]
    await server.wait_closed()
    record = await Driver(Plan((url,), Transport.SINGLE, 1), [wrong], time.monotonic(), lambda _: None).run()
    assert "no answer" in record.faults[0]
    assert record.done == []


def test_the_rollouts_of_a_step_think_and_its_rate_is_even() -> None:
    """Of 400 rollouts: 2.75 calls each, all within the step, as many in its first quarter as in its last (a step in
    which all begin at once, or end when the last has thought, would be full in the middle and empty at its ends)."""
    plan = schedule(400, 100.0, seed=3)
    assert len(plan.due_s) == 1100
    assert plan.due_s == sorted(plan.due_s)
    assert plan.due_s[0] >= 0
    assert plan.due_s[-1] < 100
    quarters = Counter(int(at // 25) for at in plan.due_s)
    assert all(220 <= quarters[quarter] <= 330 for quarter in range(4)), quarters
    times: dict[int, list[float]] = {}
    for at, rollout in zip(plan.due_s, plan.rollout, strict=True):
        times.setdefault(rollout, []).append(at)
    gaps = [later - earlier for each in times.values() for earlier, later in itertools.pairwise(each)]
    assert statistics.median(gaps) > 0.5 * THINK_S


def test_a_lost_and_a_duplicated_call_are_counted() -> None:
    """Three calls sent; one id came twice, one never."""
    record = Record(due=[0, 0], sent=[0, 0], done=[1, 1], place=[0, 1], phases=[(0.0,) * 7] * 2, ids=["a", "a"])
    summary = Outcome(0.0, 3, [record], cost.Account(at=1.0)).summary()
    assert (summary["lost"], summary["duplicated"]) == (1, 1)


def test_a_busy_machine_makes_a_run_invalid() -> None:
    """What neither the test nor the service used, as a share of all CPUs."""
    busy = cost.Account(at=10.0, busy_s=10.0 * cost.CPUS, own_s=8.0 * cost.CPUS)
    assert not busy.is_valid
    assert cost.Account(at=10.0, busy_s=8.1 * cost.CPUS, own_s=8.0 * cost.CPUS).is_valid


def test_own_cpu_time_is_not_taken_for_that_of_others() -> None:
    """A child process of ours burns CPU: it is in our account."""
    before = cost.take(None, time.monotonic())
    subprocess.run([sys.executable, "-c", "for i in range(10**7): pass"], check=True)
    used = cost.take(None, time.monotonic()).since(before)
    assert used.own_s > 0.1
    assert used.cpu_s["generator"] > 0.1


def test_work_of_the_kernels_threads_is_not_taken_for_that_of_others() -> None:
    """They unmount and free for whoever runs, which is us; of one that has ended meanwhile nothing is known."""
    before = cost.Account(kernel_s={7: 1.0, 8: 5.0})
    used = cost.Account(at=10.0, busy_s=2.0 * cost.CPUS, own_s=0.0, kernel_s={7: 1.0 + 1.8 * cost.CPUS}).since(before)
    assert used.foreign_share == pytest.approx(0.02)
    assert all(Path(f"/proc/{pid}/exe").exists() is False for pid in cost.take(None, 0.0).kernel_s)


def test_a_sample_is_given_to_its_part_and_to_what_led_there() -> None:
    """What a zygote forks while it is watched is a child, and what that forks; an init, forked before, is not."""
    text = """python3.11     0/0     PERF_RECORD_FORK(30:30):(10:10)
python3.11     0/0     PERF_RECORD_FORK(31:31):(30:30)
python3.11 31/31 cpu-clock:
\tffffffff8117c3a1 do_wp_page ([kernel.kallsyms])
\tffffffff81601285 asm_exc_page_fault ([kernel.kallsyms])
\t    7f12bd8423cd _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)

python3.11 11/11 cpu-clock:
\tffffffff81f1a000 mntput ([kernel.kallsyms])
\tffffffff81f1a3c0 __x64_sys_umount ([kernel.kallsyms])
\tffffffff81601285 do_syscall_64 ([kernel.kallsyms])

python3.11 11/11 cpu-clock:
\t    7f12bd8423cd [unknown] (/tmp/perf-11.map)

a b 40/40 cpu-clock:
\t    7f12bd8423cd main (/usr/bin/true)

swapper     0/0     cpu-clock:
\tffffffff821f2c2b pv_native_safe_halt ([kernel.kallsyms])
"""
    found = samples.Samples()
    samples.read(text.splitlines(), {10: "zygote", 11: "init"}, found)
    assert found.kinds == {"child": {"page faults": 1}, "init": {"system calls": 1, "interpreter": 1}}
    assert found.functions["child"] == {"do_wp_page (page fault)": 1}
    assert found.functions["init"] == {"mntput (umount)": 1, "perf-11": 1}
    assert (found.idle, found.others) == (1, 1)


@contextmanager
def recorder(service: str, log: Path) -> Iterator[str]:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "loadtest.load.recorder", "--service", service, "--port", str(port)]
    process = subprocess.Popen([*command, "--log", str(log)], cwd=ROOT, preexec_fn=die_with(os.getpid()))
    try:
        give_up = time.monotonic() + 30
        while time.monotonic() < give_up:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def test_what_a_client_does_can_be_recorded_and_sent_again(tmp_path: Path) -> None:
    """The recorder passes a call on as it is; its log has the call without its id, the time and the Result."""
    server, url = await slow_server(0)
    log = tmp_path / "calls.jsonl"
    with recorder(url, log) as address:
        async with httpx.AsyncClient(trust_env=False) as client:
            for number in range(2):
                answer = await client.post(f"{address}/v1/calls", json={"code": "print(1)", "id": f"x{number}"})
                assert answer.json()["stdout"] == "1\n"
            await client.post(f"{address}/run_code", json={"code": "print(1)", "language": "python"})  # no Call
    server.close()
    first, second = map(json.loads, log.read_text().splitlines())
    assert first["call"] == {"code": "print(1)"}
    assert first["result"]["status"] == "ok"
    assert second["at"] >= first["at"]
    shots, due_s = traffic.recorded(log)
    assert [shot.status for shot in shots] == ["ok", "ok"]
    assert due_s is not None
    assert due_s[0] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_run_of_the_whole_measures_and_reports(tmp_path: Path) -> None:
    """Baselines, floor, step, burst: every call comes back once and right; the report has figures for each part."""
    command = [sys.executable, "-m", "loadtest.load", "--quick", "--out", str(tmp_path)]
    command += ["--only", "throughput,fronts,step,burst,connections,profile"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert run.returncode in (0, 2), run.stderr  # 2: this machine is busy with other tests
    sections = report.load(tmp_path)
    for name in ("step", "burst", "connections"):
        found = sections[name]["found"]
        assert (found["lost"], found["duplicated"], found["wrong"]) == (0, 0, 0)
        assert found["first_answer_after_filled_s"] > 0 if name != "step" else found["latency_ms"]["p50"] > 0
    ways = sections["fronts"]["found"]
    assert set(ways) == {way.value for way in Transport}
    for way, found in ways.items():
        assert (found["answered"], found["lost"], found["wrong"]) == (found["calls"], 0, 0), way
    cases = sections["profile"]["found"]["cases"].values()
    assert all(found["counted"]["faults_per_call"]["child"] > found["floor"]["faults"] > 0 for found in cases)
    sampled = [found["sampled"]["kinds"] for found in cases if "missing" not in found["sampled"]]
    # A case so short, on a machine that is busy, may have no sample of a child.
    assert not sampled or any(kinds.get("child", {}).get("page faults", 0) > 0 for kinds in sampled)
    turn = sections["throughput"]["found"]["print"]["turns"][0]
    for part in ("gateway", "worker", "zygote", "child"):
        assert turn["service"]["cpu_ms_per_call"][part] > 0, part
    assert turn["floor"]["cpu_ms"] < turn["service"]["service_cpu_ms_per_call"]
    assert "| `print(1)`" in (tmp_path / "report.md").read_text()
    assert {path.name for path in tmp_path.glob("*.png")} >= {"throughput.png", "step.png", "burst.png"}
