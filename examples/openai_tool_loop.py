"""An OpenAI tool loop whose tool is this service, with any model behind an OpenAI-compatible endpoint.

    pip install .    # in a checkout of this project
    export OPENAI_BASE_URL=http://127.0.0.1:8001/v1 OPENAI_API_KEY=...
    python examples/openai_tool_loop.py http://127.0.0.1:8000 MODEL "What is the sum of the first 100 primes?"

Prints what each call got, then the answer. A call that is none, and code that fails, are text for the model; a fault of
the service never is: `to_text` raises ServiceFault once the client's own retries are used up.
"""

import os
import sys

import httpx

from sandbox_service.client import Call, SandboxClient
from sandbox_service.client.tools import TOOL, ToolCallError, to_call, to_text

MAX_TURNS = 10


def run_tools(sandbox: SandboxClient, tool_calls: list[dict]) -> list[dict]:
    """Return one message for each call, in their order; the calls run side by side."""
    calls: dict[int, Call] = {}
    texts: dict[int, str] = {}
    for place, tool_call in enumerate(tool_calls):
        try:
            calls[place] = to_call(tool_call, limits={"wall_s": 5})
        except ToolCallError as error:
            texts[place] = str(error)
    places = list(calls)
    for index, result in sandbox.map(calls.values()):
        texts[places[index]] = to_text(result)
    return [
        {"role": "tool", "tool_call_id": tool_call["id"], "content": texts[place]}
        for place, tool_call in enumerate(tool_calls)
    ]


def answer(model: httpx.Client, name: str, question: str, sandbox: SandboxClient) -> str:
    messages = [{"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        reply = model.post("chat/completions", json={"model": name, "messages": messages, "tools": [TOOL]})
        reply.raise_for_status()
        message = reply.json()["choices"][0]["message"]
        if not message.get("tool_calls"):
            return message["content"]
        read = run_tools(sandbox, message["tool_calls"])
        for each in read:
            print(f"[{each['tool_call_id']}] {each['content']}\n")
        messages += [message, *read]
    sys.exit(f"no answer in {MAX_TURNS} turns")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    service, name, question = sys.argv[1:]
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    key = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    with httpx.Client(base_url=base, headers=key, timeout=600) as model, SandboxClient(service) as sandbox:
        print(answer(model, name, question, sandbox))
