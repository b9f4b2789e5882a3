"""The compiled filter decides as the table says: an emulator of classic BPF runs it, no kernel is asked.

`seccomp_golden.txt` holds every decision, one line each, for review. `python tests/inside/test_seccomp_compiled.py`
writes it anew after a wanted change of the table.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_service.inside import seccomp

GOLDEN = Path(__file__).with_name("seccomp_golden.txt")
MACHINES = tuple(seccomp.AUDIT_ARCH)
PROGRAMS = {(machine, tier): seccomp.build(machine, tier) for machine in MACHINES for tier in (False, True)}
ZEROS, ONES = (0,) * 6, (0xFFFFFFFFFFFFFFFF,) * 6

# Arguments that show each check from both sides.
SAMPLES: dict[str, tuple[tuple[int, ...], ...]] = {
    "flags_of_clone": ((0x1200011,), (0x3D0F00,), *((1 << bit,) for bit in (15, 17, 25, 26, 27, 28, 29, 30))),
    "clock_of_gettime": (
        *((clock,) for clock in range(12)),
        *(((~pid << 3 | kind) & 0xFFFFFFFF,) for pid in (0, 1, 2, 3, 9) for kind in (0, 1, 2, 6)),
    ),
    "request_of_ioctl": ((0, 0x5401), (0, 0x541B), (0, 0x5421), (0, 0x5412), (0, 0x541C), (0, 0x40049409)),
    "family_of_socket": (
        *((1, kind) for kind in (1, 2, 5)),
        *((family, 0x80801, 0) for family in (2, 10, 3, 15, 16, 17, 33, 38, 40, 44)),
        *((2, 2, protocol) for protocol in (17, 1, 136, 262)),
        (2, 3, 255),
        (10, 5, 132),
    ),
    "family_of_socketpair": ((1, 1), (2, 1), (40, 1)),
    "option_of_socket": (
        *((0, 1, option) for option in range(80)),
        *((0, 6, option) for option in (*range(1, 14), 14, 18, 19, 23, 25, 31, 33)),
        *((0, 0, option) for option in (1, 2, 4, 11, 32, 33, 34, 35, 64)),
        *((0, 41, option) for option in (16, 17, 18, 19, 20, 25, 26, 34, 59, 64, 67)),
        *((0, level, option) for level in (17, 263, 282, 0xFFFFFFFF) for option in (1, 2, 103)),
    ),
    "command_of_fcntl": (
        *((0, command) for command in (*range(17), 36, 38, 1024, 1025, 1026, 1030, 1033, 1039)),
        *((0, 1031, size) for size in (4096, 65536, 65537, 1 << 20)),
    ),
    "flags_of_readv2": (ZEROS, (0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 8)),
    "mode_of_mknod": tuple((0, mode | 0o600) for mode in (0, 0o100000, 0o10000, 0o140000, 0o20000, 0o60000)),
    "mode_of_mknodat": tuple((0, 0, mode | 0o600) for mode in (0, 0o100000, 0o10000, 0o140000, 0o20000, 0o60000)),
    "flags_of_mmap": ((0, 0, 0, 0x22), (0, 0, 0, 0x40022)),
    "flags_of_memfd": ((0, 1), (0, 3), (0, 4), (0, 5)),
    "policy_of_scheduler": tuple((0, policy) for policy in (0, 0x40000000, 1, 2, 3, 5, 6, 7)),
    "value_of_personality": ((0,), (0xFFFFFFFF,), (0x40000,), (8,)),
    "flags_of_shmget": ((0, 0, 0o1600), (0, 0, 0o5600), (0, 0, 0x800 | 1 << 32)),
    "command_of_shmctl": tuple((0, command) for command in (*range(16), 11 | 1 << 32)),
    "advice_of_fadvise": tuple((0, 0, 0, advice) for advice in (*range(8), 4 | 1 << 32)),
    "option_of_prctl": tuple(
        (option,) for option in (*range(1, 80), 0x53564D41, 0x41555856, 0x59616D61, 0x4D444D41)
    ),
}  # fmt: skip


def emulate(program: bytes, machine_word: int, number: int, arguments: tuple[int, ...]) -> int:
    """Run classic BPF as the kernel does on one struct seccomp_data; return what the program returns."""
    padded = [*arguments, *ZEROS][:6]
    data = struct.pack("=IIQ6Q", number, machine_word, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = position = 0
    for _ in range(len(code)):
        operation, if_true, if_false, operand = code[position]
        position += 1
        match operation:
            case seccomp.LOAD:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case seccomp.AND:
                accumulator &= operand
            case seccomp.JUMP:
                position += operand
            case seccomp.IF_EQUAL:
                position += if_true if accumulator == operand else if_false
            case seccomp.IF_AT_LEAST:
                position += if_true if accumulator >= operand else if_false
            case seccomp.IF_SET:
                position += if_true if accumulator & operand else if_false
            case seccomp.RETURN:
                return operand
            case _:
                raise AssertionError(f"no such operation: {operation:#x}")
    raise AssertionError("the program jumps forward only, so it must have returned")


def by_the_table(machine: str, loopback: bool, number: int, arguments: tuple[int, ...]) -> int:
    """The same decision, read straight off the table: what the compiled program must equal."""
    if number & seccomp.X32_BIT:
        return seccomp.KILL_PROCESS
    rule = seccomp.read_table(machine).get(number, "ENOSYS")
    if rule == "allow":
        return seccomp.ALLOW
    if rule == "kill":
        return seccomp.KILL_PROCESS
    if rule.startswith("E"):
        return seccomp.ERRNO | int(getattr(errno, rule))
    check = seccomp.checks(loopback)[rule]
    low_halves = [argument & 0xFFFFFFFF for argument in [*arguments, *ZEROS][:6]]
    holds = any(all(c.holds(low_halves[c.argument]) for c in tests) for tests in check.alternatives)
    return seccomp.ALLOW if holds else seccomp.ERRNO | check.otherwise


def decide(machine: str, loopback: bool, number: int, arguments: tuple[int, ...]) -> int:
    return emulate(PROGRAMS[machine, loopback], seccomp.AUDIT_ARCH[machine], number, arguments)


def word(decision: int) -> str:
    if decision & 0xFFFF0000 == seccomp.ERRNO:
        return errno.errorcode[decision & 0xFFFF] if decision & 0xFFFF else "nothing"
    return {seccomp.ALLOW: "allow", seccomp.KILL_PROCESS: "kill"}[decision]


def names_of(machine: str) -> dict[int, str]:
    column = MACHINES.index(machine)
    rows = (line.split() for line in seccomp.TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return {int(row[column]): row[2] for row in rows if row[column] != "-"}


def golden_lines(machine: str) -> Iterator[str]:
    """`machine number name decision`; with arguments where they matter, with both tiers where they differ.

    Numbers from the first to the last of the table have their own lines; the rest, to 1023, must be refused.
    """
    names, rules = names_of(machine), seccomp.read_table(machine)
    unknown = {decide(machine, tier, n, ONES) for tier in (False, True) for n in range(max(names) + 1, 1024)}
    yield f"{machine} {max(names) + 1}-1023 {' '.join(sorted(map(word, unknown)))}"
    for number in range(max(names) + 1):
        name = names.get(number, "-")
        if rules.get(number) not in SAMPLES:
            decisions = {decide(machine, tier, number, fill) for tier in (False, True) for fill in (ZEROS, ONES)}
            assert len(decisions) == 1, f"{name} looks at arguments"
            yield f"{machine} {number} {name} {word(decisions.pop())}"
            continue
        for sample in SAMPLES[rules[number]]:
            tight, loose = (word(decide(machine, tier, number, sample)) for tier in (False, True))
            shown = tight if tight == loose else f"{tight}, with loopback {loose}"
            yield f"{machine} {number} {name}({', '.join(hex(argument) for argument in sample)}) {shown}"


@pytest.mark.parametrize("machine", MACHINES)
def test_every_number_has_the_decision_that_was_reviewed(machine: str) -> None:
    """A change of the filter for any system call shows as a line of the golden file."""
    reviewed = [line for line in GOLDEN.read_text().splitlines() if line.startswith(machine)]
    assert list(golden_lines(machine)) == reviewed


numbers = st.one_of(
    st.integers(0, 520), st.integers(0, 0xFFFFFFFF), st.integers(0, 520).map(lambda number: number | seccomp.X32_BIT)
)
known_words = sorted({v for sample in SAMPLES.values() for arguments in sample for v in arguments})
arguments = st.one_of(
    st.sampled_from([sample for samples in SAMPLES.values() for sample in samples]),
    st.tuples(*[st.one_of(st.sampled_from(known_words), st.integers(0, 0xFFFFFFFFFFFFFFFF))] * 6),
)


@settings(max_examples=500)
@given(st.sampled_from(MACHINES), st.booleans(), numbers, arguments)
def test_the_compiled_tree_equals_the_table(machine: str, loopback: bool, number: int, values: tuple[int, ...]) -> None:
    """For any number and any arguments the search tree decides as reading the table row by row does."""
    assert decide(machine, loopback, number, values) == by_the_table(machine, loopback, number, values)


@given(st.sampled_from(MACHINES), st.sampled_from(sorted(SAMPLES)), st.data(), st.integers(1, 0xFFFFFFFF))
def test_the_high_half_of_an_argument_changes_nothing(machine: str, rule: str, data: st.DataObject, high: int) -> None:
    """TIOCSTI with high bits set (CVE-2019-7303, CVE-2019-10063): the kernel drops them, so the filter must too."""
    number = next((n for n, r in seccomp.read_table(machine).items() if r == rule), None)
    if number is None:  # mknod, on aarch64
        return
    values = data.draw(st.sampled_from(SAMPLES[rule]))
    with_high = tuple(value | high << 32 for value in values)
    assert decide(machine, False, number, with_high) == decide(machine, False, number, values)


rules = st.sampled_from(["allow", "kill", "EPERM", "ENOSYS", *SAMPLES])


@settings(max_examples=60)
@given(st.dictionaries(st.integers(0, 1500), rules, max_size=100).filter(lambda table: {*table.values()} - {"ENOSYS"}))
def test_any_table_compiles_to_itself(table: dict[int, str]) -> None:
    """Trees of any shape and size, of one range or of gaps only, decide as their table does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seccomp, "read_table", lambda machine: table)
        program = seccomp.build("x86_64")
        for number in {n + step for n in table for step in (-1, 0, 1) if n + step >= 0}:
            decided = emulate(program, seccomp.AUDIT_ARCH["x86_64"], number, ONES)
            assert decided == by_the_table("x86_64", False, number, ONES)


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_ends_the_process(machine: str) -> None:
    """Numbers mean other calls there: 32-bit x86 through int 0x80, or the other machine of the table."""
    foreign = {0x40000003, 0, *seccomp.AUDIT_ARCH.values()} - {seccomp.AUDIT_ARCH[machine]}
    for machine_word in foreign:
        for number in (0, 1, 39, 172, 231):
            assert emulate(PROGRAMS[machine, False], machine_word, number, ZEROS) == seccomp.KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_fits_the_kernel(machine: str) -> None:
    """The kernel refuses 4,096 instructions and more, and a few hundred is what an execution can afford."""
    for loopback in (False, True):
        assert len(PROGRAMS[machine, loopback]) // 8 < 450


def test_a_table_that_does_not_fit_is_refused() -> None:
    """More ranges than a conditional jump can span, or an unknown machine, is an error and not a wrong filter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seccomp, "read_table", lambda machine: dict.fromkeys(range(0, 1200, 2), "allow"))
        with pytest.raises(ValueError, match="split the pool"):
            seccomp.build("x86_64")
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.build("riscv64")


HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel_headers(machine: str) -> None:
    """Needs linux-libc-dev; calls newer than the installed headers have one number on all machines, above 450."""
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    defined = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(), re.MULTILINE)
    expected = {name: int(number) for name, number in defined} | ({"newfstatat": 79} if machine == "aarch64" else {})
    for number, name in names_of(machine).items():
        assert expected.get(name, number) == number
        assert name in expected or (number > 450 and names_of("x86_64")[number] == name)


if __name__ == "__main__":
    GOLDEN.write_text("".join(f"{line}\n" for machine in MACHINES for line in golden_lines(machine)))
