"""`eval`: a model on a set of questions, with the tool."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.commands.parser import default_url
from sandbox_service.commands.run import read_key
from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate as evaluation
from sandbox_service.integrations.episode import Bounds

_GENERATION_S = 3600
"""The longest that one turn may take."""


def evaluate(options: argparse.Namespace) -> int:
    if bool(options.endpoint) == bool(options.folder):
        raise SetupError("say which model: --endpoint URL or --folder PATH, one of them")
    if options.endpoint and not options.model:
        raise SetupError("say which model the endpoint is to run: --model NAME")
    if options.endpoint and not options.endpoint.startswith(("http://", "https://")):
        raise SetupError(f"--endpoint {options.endpoint}: must be a URL, as in http://127.0.0.1:8100/v1")
    if options.folder and not Path(options.folder, "config.json").is_file():
        raise SetupError(f"--folder {options.folder}: there is no model (a Hugging Face folder has a config.json)")
    questions = evaluation.load(Path(options.data))
    found = asyncio.run(_run(options, questions[: options.limit]))
    print(json.dumps(found, indent=2))
    return 1 if found["lost"] else 0


async def _run(options: argparse.Namespace, questions: list[evaluation.Question]) -> dict[str, Any]:
    bounds = Bounds(options.max_tokens, options.turns, options.response_chars, options.wall_s)
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    patience = httpx.Timeout(_GENERATION_S, connect=10)
    async with (
        AsyncSandboxClient(options.url or default_url(), api_key=read_key(options.api_key_file)) as sandbox,
        httpx.AsyncClient(headers=headers, timeout=patience, limits=httpx.Limits()) as http,
    ):
        if options.endpoint:
            play = evaluation.endpoint(http, options.endpoint, options.model, sandbox, bounds, options.temperature)
        else:
            play = evaluation.folder(options.folder, sandbox, bounds, options.temperature, options.template)
        samples, lost = await evaluation.sample_all(questions, options.samples, play, sandbox, options.at_once)
    if options.out:
        evaluation.write(samples, Path(options.out))
    if options.unsolved:
        evaluation.write_unsolved(Path(options.data), samples, Path(options.unsolved))
    return {"data": options.data, **evaluation.summary(samples, lost), "lost_because": lost[:5]}
