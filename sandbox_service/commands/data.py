"""`train data`: published data sets, from files of this machine, as what trainers read."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate as evaluation
from sandbox_service.trainer import curate
from sandbox_service.trainer.rows import pyarrow, read_rows
from sandbox_service.trainer.sources import RL, SFT, Dropped, Messages


def data(options: argparse.Namespace) -> int:
    source: str = options.source
    if source not in SFT and source not in RL:
        raise SetupError(f"no source {source!r}; for SFT: {', '.join(SFT)}; for RL: {', '.join(RL)}")
    if options.samples and (source != "verl" or len(options.files) != 1):
        raise SetupError("--samples goes with the source verl and the one file that was sampled: ids are its lines")
    if options.out.suffix not in (".jsonl", ".parquet"):
        raise SetupError(f"{options.out}: say which form, .jsonl or .parquet")
    if options.out.suffix == ".parquet":
        pyarrow()  # now, and not after an hour of reading
    for path in options.files:
        if path.exists() and options.out.exists() and path.samefile(options.out):
            raise SetupError(f"{path} would be overwritten while it is read: write to another file")
    held_out = {
        gram for path in options.decontaminate for one in evaluation.load(path) for gram in curate.grams(one.text)
    }
    answers = _answers(options.samples) if options.samples else None
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    read = 0
    for path in options.files:
        for number, row in read_rows(path):
            read += 1
            given = answers.pop(number, []) if answers is not None else None
            try:
                made, text = _converted(source, path, number, row)
                if given is not None and not curate.confirmed(_answer(made), given):
                    raise Dropped(f"fewer than {curate.CONFIRMED} answers confirm it")
                key = json.dumps(made["messages"]) if source in SFT else text
                if key in seen:
                    raise Dropped("a duplicate")
                if held_out and not held_out.isdisjoint(curate.grams(text)):
                    raise Dropped(f"shares {curate.NGRAM} words with an evaluation set")
                seen.add(key)
                rows.append(made)
            except Dropped as why:
                dropped[str(why)] += 1
    if answers:
        raise SetupError(f"{options.samples}: sample of id {min(answers)}, and {options.files[0]} has no such row")
    found = {"source": source, "read": read, "kept": len(rows), "dropped": dict(dropped.most_common())}
    if not rows:
        raise SetupError(f"no row is left, nothing was written: {json.dumps(found)}")
    _write(options.out, rows)
    print(json.dumps({**found, "out": str(options.out)}, indent=2))
    return 0


def _converted(source: str, path: Path, number: int, row: Any) -> tuple[dict[str, Any], str]:
    """The row, and the text of its questions."""
    try:
        if not isinstance(row, dict):
            raise TypeError(f"an object expected, not {type(row).__name__}")
        if source in SFT:
            messages = SFT[source](row)
            return {"messages": messages, "source": source}, _asked(messages)
        question = RL[source](row)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise SetupError(f"{path}: row {number} is none of {source}: {why}") from None
    answer = curate.integer(question.answer)
    if not question.text:
        raise Dropped("an empty message")
    return (row if source == "verl" else _verl(source, question.text, answer, number)), question.text


def _verl(source: str, question: str, answer: str, number: int) -> dict[str, Any]:
    return {
        "data_source": "math",
        "prompt": [{"role": "user", "content": question}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": answer},
        "extra_info": {"source": source, "index": number},
    }


def _answer(row: dict[str, Any]) -> str:
    return curate.integer(str(row["reward_model"]["ground_truth"]))


def _asked(messages: Messages) -> str:
    return "\n".join(turn["content"] for turn in messages if turn["role"] == "user")


def _answers(path: Path) -> dict[int, list[str | None]]:
    """The answers to each row, of what `sandbox-service eval --out` wrote."""
    found: dict[int, list[str | None]] = defaultdict(list)
    for number, sample in read_rows(path):
        try:
            found[int(sample["id"])].append(sample["answer"])
        except (KeyError, TypeError, ValueError):
            raise SetupError(f"{path}: row {number} is no sample with `id` and `answer`") from None
    if not found:
        raise SetupError(f"{path} has no samples")
    return found


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """All or nothing: a file of that name is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.suffix == ".parquet":
            arrow = pyarrow()
            importlib.import_module("pyarrow.parquet").write_table(arrow.Table.from_pylist(rows), partial)
        else:
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
