"""What becomes of a program's bytes: compared outside the jail, decoded, never interpreted."""

from __future__ import annotations

import pytest

from sandbox_service.worker.execution import _text, same_output


@pytest.mark.parametrize(
    ("actual", "expected", "exact", "strip", "lines"),
    [
        (b"1\n2\n", b"1\n2\n", True, True, True),
        (b"1\n2\n", b"1\n2", False, True, True),
        (b"1\r\n2\r\n", b"1\n2\n", False, False, True),
        (b"1 \n2\t\n", b"1\n2\n", False, False, True),
        (b"1\n2\n\n\n", b"1\n2\n", False, True, True),
        (b"\n1\n2\n", b"1\n2\n", False, True, False),
        (b" 1\n2\n", b"1\n2\n", False, True, False),
        (b"1\n 2\n", b"1\n2\n", False, False, False),
        (b"1\n\n2\n", b"1\n2\n", False, False, False),
        (b"1  2\n", b"1 2\n", False, False, False),
        (b"", b"", True, True, True),
        (b"\n", b"", False, True, True),
        (b"\xef\xbb\xbf1\n", b"1\n", False, False, False),  # a byte order mark is content
        ("\u00a01\n".encode(), b"1\n", False, False, False),  # so is a no-break space
        (b"\xff\n", "\ufffd\n".encode(), False, False, False),  # what is replaced for display is not for judging
        (b"A\n", b"a\n", False, False, False),
        (b"1.0\n", b"1\n", False, False, False),
        (b"1\x00\n", b"1\n", False, False, False),
        (b"1\x0b\x0c\n", b"1\n", False, True, True),
    ],
)
def test_outputs_are_the_same(actual: bytes, expected: bytes, exact: bool, strip: bool, lines: bool) -> None:
    for compare, same in (("exact", exact), ("strip", strip), ("lines", lines)):
        assert same_output(actual, expected, compare) is same, compare
        assert same_output(expected, actual, compare) is same, f"{compare}, the other way round"


@pytest.mark.parametrize(
    ("output", "truncated", "text", "replaced"),
    [
        (b"plain", False, "plain", False),
        ("é".encode() * 2, False, "éé", False),
        (b"a\xffb", False, "a\ufffdb", True),
        (b"\xc3", False, "\ufffd", True),
        (b"x\xc3", True, "x", False),
        ("x😀".encode()[:-1], True, "x", False),
        (b"\xff\xc3", True, "\ufffd", True),
        (b"\x00", False, "\x00", False),
        (b"", True, "", False),
    ],
)
def test_bytes_become_text(output: bytes, truncated: bool, text: str, replaced: bool) -> None:
    """A character that our own cut split is left out; it was not the program that wrote it wrongly."""
    assert _text(output, truncated) == (text, replaced)
