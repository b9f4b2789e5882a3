"""Contract tests inside other trainers' environments: `make integrations-test`.

They stand apart from `tests/conftest.py` (`--confcutdir`), which needs the server's packages: the service runs from the
main environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# For Ray, which reads them when it is imported: no reports to its makers, no key below the home directory.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
ROOT = Path(__file__).parents[2]
_SERVE = "import sys; from sandbox_service.serve import temporary_service\n" \
    "with temporary_service() as url: print(url, flush=True); sys.stdin.read()"  # fmt: skip


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    """A service from the main environment."""
    with subprocess.Popen(
        [ROOT / ".venv/bin/python", "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray and TransferQueue on this machine. The CPUs are only what Ray counts: each of verl's actors asks for one."""
    import ray
    import transfer_queue as tq

    ray.init(num_cpus=16, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=True)
    tq.init({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}})
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3 with a byte-level tokenizer that knows the paper's markup, as a Hugging Face folder."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from sandbox_service.trainer.prompts import IM_END, MARKUP

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<|pad|>", *MARKUP)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=IM_END, pad_token="<|pad|>")
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    fast.save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    config = Qwen3Config(
        vocab_size=len(fast), num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=16384,
        eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, **size,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def call_text(code: str) -> str:
    """A turn that calls the tool."""
    from sandbox_service.client.tools import TOOL_NAME

    arguments: dict[str, Any] = {"code": code, "input": ""}
    return f"try</reason><tool_call>{json.dumps({'name': TOOL_NAME, 'arguments': arguments})}</tool_call>"


def answer_text(answer: str) -> str:
    return f"so</reason><answer>\\boxed{{{answer}}}</answer>"
