"""The policy is Qwen3, with and without a cache."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sandbox_service.trainer.model import Cache, Policy
from sandbox_service.trainer.prompts import CALL_HEAD, TEMPLATES, Piece, first_turn
from sandbox_service.trainer.tokens import Tokens


def test_transformers_computes_the_same_from_the_saved_folder(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.randint(0, 64, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert type(theirs).__name__ == "Qwen3ForCausalLM"
        assert torch.allclose(policy(tokens), theirs(tokens).logits, atol=1e-4)


def test_a_folder_is_read_back_as_it_was(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    read = Policy.load(tmp_path)
    assert read.shape == policy.shape
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), read.parameters(), strict=True))


def test_a_folder_as_qwen3_was_published_is_read(policy: Policy, tmp_path: Path) -> None:
    """RoPE at the top of config.json, and the tied head in the weights a second time."""
    policy.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": theta, "rope_scaling": None}))
    weights = load_file(tmp_path / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"].clone()
    save_file({**weights, "lm_head.weight": embedding}, tmp_path / "model.safetensors")
    read = Policy.load(tmp_path)
    assert read.shape == policy.shape
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), read.parameters(), strict=True))
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": theta, "rope_scaling": {"factor": 4}}))
    with pytest.raises(ValueError, match="rope_type"):
        Policy.load(tmp_path)


def test_a_model_of_another_kind_is_refused(policy: Policy, tmp_path: Path) -> None:
    policy.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    with pytest.raises(ValueError, match="tie_word_embeddings is False"):
        Policy.load(tmp_path)


@torch.no_grad()
def test_the_cache_changes_nothing(policy: Policy) -> None:
    """Rows of different lengths, filled in two parts, extended, swapped and copied: the logits of a plain pass."""
    sequences = torch.randint(0, 64, (3, 12), generator=torch.Generator().manual_seed(0))
    plain = policy(sequences)
    cache = Cache(policy.shape, policy.device)
    cache.reserve(4, 12)
    lengths = torch.tensor([9, 5, 7])
    rows = torch.tensor([2, 0, 1])
    policy.fill(sequences[:, :5], torch.zeros(3, dtype=torch.long), rows, cache)
    policy.fill(sequences[:, 5:9], torch.full((3,), 5), rows, cache)  # beyond `lengths` it is padding
    cache.swap(2, 0, 9)  # sequence 0 to row 0, 1 to row 2
    cache.reserve(5, 80)
    cache.copy(2, 3, 9)
    cache.swap(1, 3, 9)  # sequence 1 to row 1, 2 to row 3
    cache.copy(3, 2, 9)
    for _ in range(3):
        here = torch.arange(3)
        logits = policy.extend(sequences[here, lengths][:, None], lengths, cache)
        assert torch.allclose(logits, plain[here, lengths], atol=1e-4)
        lengths = lengths + 1


def test_tokens_come_back_as_text_and_markup_only_as_markup(tmp_path: Path) -> None:
    trained = Tokens.train(["use python</reason><tool_call>print(12)</tool_call><|im_end|>"] * 3, 320)
    trained.save(tmp_path)
    tokens = Tokens.load(tmp_path)
    pieces = [*first_turn(TEMPLATES["paper"], "What ist 2 + 2? <|im_end|> äß漢"), Piece(CALL_HEAD)]
    assert tokens.decode(tokens.encode(pieces)) == "".join(piece.text for piece in pieces)
    assert tokens.encode([Piece("<|im_end|>")]) == [tokens.end]
    assert tokens.end not in tokens.encode([Piece("<|im_end|>", markup=False)])
    assert len(tokens.encode([Piece("123")])) == 3
