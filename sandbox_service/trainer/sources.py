"""The rows of the paper's data sets, as published, turned into one form each for SFT and for RL. Pure, no I/O.

SFT: `messages`, each a role and a text, which any chat template takes: tools stand in the system message, a call is
`<tool_call>{"name", "arguments"}</tool_call>` in the assistant's text, its output `<tool_response>` in a user message.
RL: a question and its answer, as they stand. Rewriting by a model (the paper's o4-mini) is not done here.

A row that is not of the source at all raises KeyError, TypeError or ValueError; one that is no use raises Dropped.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sandbox_service.client.tools import TOOL, TOOL_NAME

Row = Mapping[str, Any]
Messages = list[dict[str, str]]


class Dropped(Exception):
    """This row is left out; the text is the reason, the same for all rows with that reason."""


class Question(NamedTuple):
    text: str
    answer: str


_BAD_CALL = "a call that cannot be read, or of no listed tool"
_TYPES = {
    "dict": "object", "float": "number", "int": "integer", "list": "array", "tuple": "array", "str": "string",
    "bool": "boolean",
}  # fmt: skip


def toolace(row: Row) -> Messages:
    """`system` with a JSON list of functions; `conversations` of `from`/`value`; calls as `[Name(key="value")]`."""
    system = _text(row["system"])
    found = re.search(r"\[\s*(?=\{)", system)
    if found is None:
        raise Dropped("no tools in the system message")
    tools = _tools(_decoded(system, found.start())[0])
    dialogue = _Dialogue(tools)
    for turn in row["conversations"]:
        who, text = turn["from"], _text(turn["value"])
        if who == "assistant" and re.match(r"\[\s*[^\[\]{}()\"']+\(", text.strip()):
            dialogue.call(list(_bracketed(text.strip())))
        else:
            dialogue.say(_role(who, {"user": "user", "assistant": "assistant", "tool": "tool"}), text)
    return dialogue.messages()


def apigen_mt(row: Row) -> Messages:
    """`tools` (a JSON text), `system` (a policy), `conversations` of human, gpt, function_call and observation."""
    tools = row["tools"]
    dialogue = _Dialogue(_tools(json.loads(tools) if isinstance(tools, str) else tools), _text(row["system"]))
    for turn in row["conversations"]:
        who, text = turn["from"], _text(turn["value"])
        if who == "function_call":
            dialogue.call([_call(text)])
        else:
            dialogue.say(_role(who, {"human": "user", "gpt": "assistant", "observation": "tool"}), text)
    return dialogue.messages()


_SPEAKER = re.compile(r"(?:^|\n)\s*(USER|ASSISTANT|FUNCTION RESPONSE):")


def glaive(row: Row) -> Messages:
    """`system` with the functions as JSON objects, `chat` of USER:, ASSISTANT: and FUNCTION RESPONSE: (version 2)."""
    system, chat = _text(row["system"]), _text(row["chat"])
    tools, at = [], system.find("{")
    while at >= 0:
        tool, end = _decoded(system, at)
        tools.append(tool)
        at = system.find("{", end)
    dialogue = _Dialogue(_tools(tools))
    parts = _SPEAKER.split(chat)
    if len(parts) < 3:
        raise ValueError("`chat` has no USER: or ASSISTANT:")
    for who, said in zip(parts[1::2], parts[2::2], strict=True):
        text = said.replace("<|endoftext|>", "").strip()
        before, mark, call = text.partition("<functioncall>")
        if who == "ASSISTANT" and mark:
            dialogue.call(
                [_call(re.sub(r"""("arguments":\s*)'(.*)'(\s*\})$""", r"\1\2\3", call.strip(), flags=re.S))], before
            )
        else:
            dialogue.say({"USER": "user", "ASSISTANT": "assistant"}.get(who, "tool"), text)
    return dialogue.messages()


_BLOCK = re.compile(r"```(\w*)\s*\n(.*?)```", re.DOTALL)


def magicoder(row: Row) -> Messages:
    """`problem`, `solution`, `lang` (OSS-Instruct) or `instruction`, `response` (Evol-Instruct): the solution's one
    Python program becomes a call of the tool; what follows it is left out, for it knows no output."""
    if "problem" in row:
        asked, answer = _text(row["problem"]), _text(row["solution"])
        if row["lang"] != "python":
            raise Dropped("not Python")
    else:
        asked, answer = _text(row["instruction"]), _text(row["response"])
    blocks = list(_BLOCK.finditer(answer))
    if len(blocks) != 1 or blocks[0][1].lower() not in ("", "python", "python3", "py"):
        raise Dropped("not one Python program")
    code = blocks[0][2]
    try:
        with warnings.catch_warnings(action="ignore"):  # an invalid escape is not our affair
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Dropped("not one Python program") from None
    dialogue = _Dialogue([TOOL])
    dialogue.say("user", asked)
    dialogue.call([(TOOL_NAME, {"code": code, "input": ""})], answer[: blocks[0].start()])
    return dialogue.messages()


def tulu3(row: Row) -> Messages:
    """`messages`; of the whole mixture (`source`) only instruction following."""
    if "ifdata" not in str(row.get("source", "ifdata")):
        raise Dropped("not instruction following")
    return _plain(row["messages"])


def nemotron(row: Row) -> Messages:
    """`input` (messages or a text), `output`, `category`, `reasoning`: chat without reasoning. Its system prompts are
    switches of its own models ("detailed thinking off") and are left out."""
    if row["category"] != "chat":
        raise Dropped("not chat")
    if row.get("reasoning", "off") == "on":
        raise Dropped("reasoning")
    asked = row["input"]
    turns = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked)
    turns = [turn for turn in turns if turn["role"] != "system"]
    return _plain([*turns, {"role": "assistant", "content": row["output"]}])


_DAPO_BEFORE = re.compile(r"\ASolve the following math problem step by step\. .*?\n\n", re.DOTALL)
_DAPO_AFTER = re.compile(r"\n\nRemember to put your answer on its own line after \"Answer:\"\.\s*\Z")


def dapo(row: Row) -> Question:
    """verl's form, with DAPO's instructions around the question; or `prompt` and `solution` (the processed set)."""
    prompt = row["prompt"]
    if isinstance(prompt, str):
        return Question(prompt.strip(), _text(row["solution"]))
    question = _DAPO_AFTER.sub("", _DAPO_BEFORE.sub("", _text(prompt[0]["content"])))
    return Question(question.strip(), str(row["reward_model"]["ground_truth"]))


def openmathreasoning(row: Row) -> Question:
    """`problem`, `expected_answer`, `problem_type`, `problem_source`: problems of AoPS whose answer was stated."""
    if row["problem_type"] != "has_answer_extracted":
        raise Dropped("no stated answer")
    if not str(row["problem_source"]).startswith("aops"):
        raise Dropped("not from AoPS")
    return Question(_text(row["problem"]).strip(), str(row["expected_answer"]))


def project_euler(row: Row) -> Question:
    """`problem` (or `question`) and `answer`; there is no published form."""
    return Question(_text(row["problem"] if "problem" in row else row["question"]).strip(), str(row["answer"]))


def verl(row: Row) -> Question:
    """What this command wrote before, to be filtered further."""
    return Question(_text(row["prompt"][-1]["content"]), str(row["reward_model"]["ground_truth"]))


SFT: dict[str, Callable[[Row], Messages]] = {
    "toolace": toolace, "apigen-mt": apigen_mt, "glaive": glaive, "magicoder": magicoder, "tulu3": tulu3,
    "nemotron": nemotron,
}  # fmt: skip
RL: dict[str, Callable[[Row], Question]] = {
    "dapo": dapo, "openmathreasoning": openmathreasoning, "project-euler": project_euler, "verl": verl,
}  # fmt: skip


class _Dialogue:
    """Messages as they are added; a call must be of a listed tool, and the last message the assistant's."""

    def __init__(self, tools: list[dict[str, Any]], system: str = "") -> None:
        self._names = {tool["function"]["name"] for tool in tools}
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        about = (
            "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
            f"function signatures within <tools></tools> XML tags:\n<tools>\n{listed}\n</tools>\n\nFor each function "
            "call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
            '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        )
        parts = [part for part in (system.strip(), about if tools else "") if part]
        self._turns: Messages = [{"role": "system", "content": "\n\n".join(parts)}] if parts else []

    def say(self, role: str, text: str) -> None:
        text = text.strip()
        if role == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>"
            last = self._turns[-1] if self._turns else {"role": "", "content": ""}
            if last["role"] == "user" and last["content"].endswith("</tool_response>"):
                last["content"] += f"\n{text}"
                return
        self._turns.append({"role": "user" if role == "tool" else role, "content": text})

    def call(self, calls: list[tuple[str, dict[str, Any]]], before: str = "") -> None:
        if not calls or any(name not in self._names for name, _ in calls):
            raise Dropped(_BAD_CALL)
        texts = [json.dumps({"name": name, "arguments": given}, ensure_ascii=False) for name, given in calls]
        parts = [before.strip(), *(f"<tool_call>\n{text}\n</tool_call>" for text in texts)]
        self.say("assistant", "\n".join(part for part in parts if part))

    def messages(self) -> Messages:
        """All of them, to the assistant's last."""
        while self._turns and self._turns[-1]["role"] != "assistant":
            self._turns.pop()
        spoken = [turn for turn in self._turns if turn["role"] != "system"]
        if not spoken or spoken[0]["role"] != "user":
            raise Dropped("no user message that the assistant answers")
        if not all(turn["content"] for turn in spoken):
            raise Dropped("an empty message")
        return self._turns


def _plain(turns: Any) -> Messages:
    dialogue = _Dialogue([])
    for turn in turns:
        role = _role(turn["role"], {"system": "system", "user": "user", "assistant": "assistant"})
        dialogue.say(role, _text(turn["content"]))
    return dialogue.messages()


def _role(name: str, known: dict[str, str]) -> str:
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return known[name]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return value


def _tools(listed: Any) -> list[dict[str, Any]]:
    """As OpenAI's API has them, with the type names of JSON Schema."""
    found = []
    for tool in listed:
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        about = {"description": function["description"]} if "description" in function else {}
        found.append({
            "type": "function", "function": {"name": function["name"], **about, "parameters": _typed(parameters)},
        })  # fmt: skip
    return found


def _typed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_typed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _TYPES.get(value, value) if key == "type" and isinstance(value, str) else _typed(value)
        for key, value in schema.items()
    }


def _decoded(text: str, at: int) -> tuple[Any, int]:
    try:
        return json.JSONDecoder().raw_decode(text, at)
    except (ValueError, RecursionError):
        raise Dropped("tools that are no JSON") from None


def _call(text: str) -> tuple[str, dict[str, Any]]:
    """`{"name", "arguments"}`; some sets write the arguments as a text of JSON."""
    try:
        found = json.loads(text)
        given = found.get("arguments", {})
        given = json.loads(given) if isinstance(given, str) else given
        name = found["name"]
    except (ValueError, KeyError, AttributeError, RecursionError):
        raise Dropped(_BAD_CALL) from None
    if not isinstance(given, dict) or not isinstance(name, str):
        raise Dropped(_BAD_CALL)
    return name, given


_CONSTANTS = {"true": True, "false": False, "null": None}


def _bracketed(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The calls of `[Name of a function(key="value", other=[1, 2]), Another()]`: names may have spaces."""
    if not text.endswith("]"):
        raise Dropped(_BAD_CALL)
    rest = text[1:-1].strip()
    while rest:
        name, _, rest = rest.partition("(")
        given, rest = _arguments(rest)
        yield name.strip(), given
        rest = rest.strip()
        if rest and not rest.startswith(","):
            raise Dropped(_BAD_CALL)
        rest = rest[1:].strip()


def _arguments(rest: str) -> tuple[dict[str, Any], str]:
    """The arguments up to the closing parenthesis, and what follows it."""
    for end in (at for at, letter in enumerate(rest) if letter == ")"):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(f"f({rest[:end]})", mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # this one is inside a string or a list
        if (
            not isinstance(tree, ast.Call)
            or not isinstance(tree.func, ast.Name)
            or tree.args
            or not all(one.arg for one in tree.keywords)
        ):
            break
        try:
            return {str(one.arg): _literal(one.value) for one in tree.keywords}, rest[end + 1 :]
        except (ValueError, TypeError, RecursionError):
            break
    raise Dropped(_BAD_CALL)


class _Json(ast.NodeTransformer):
    """JSON's constants among Python's literals."""

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(_CONSTANTS[node.id]) if node.id in _CONSTANTS else node


def _literal(value: ast.expr) -> Any:
    found = ast.literal_eval(_Json().visit(value))
    json.dumps(found)  # a set or a bytes is no argument
    return found
