"""The policy: Qwen3 in plain PyTorch, loaded from and saved as a Hugging Face folder.

Parameter names and mathematics are those of `transformers`' Qwen3ForCausalLM (a test compares the two), so what is
trained here loads in transformers, vLLM, SGLang and verl. One forward pass serves training (no cache) and
inference (`Cache`, with rows of different lengths).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sandbox_service.trainer.recipe import Architecture

_EPS = 1e-6


class Cache:
    """Keys and values of up to `rows` sequences: row r holds `lengths[r]` positions. Grows, never shrinks."""

    def __init__(self, shape: Architecture, device: torch.device) -> None:
        self._shape, self._device = shape, device
        self.rows, self.columns = 0, 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for so many rows of so many positions."""
        if rows <= self.rows and columns <= self.columns:
            return
        old_rows, old_columns = self.rows, self.columns
        self.rows = max(self.rows, 1 << (rows - 1).bit_length())
        self.columns = max(self.columns, -(-columns // 64) * 64)
        size = (self.rows, self._shape.kv_heads, self.columns, self._shape.head_dim)
        for store in (self.keys, self.values):
            grown = [torch.zeros(size, device=self._device) for _ in range(self._shape.layers)]
            for new, old in zip(grown, store, strict=False):
                new[:old_rows, :, :old_columns] = old
            store[:] = grown

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the first `length` positions of a row those of another."""
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange the first `length` positions of two rows."""
        for store in (*self.keys, *self.values):
            kept = store[one, :, :length].clone()
            store[one, :, :length] = store[other, :, :length]
            store[other, :, :length] = kept


@dataclass(frozen=True)
class _Place:
    """Where the tokens of one pass stand."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    """None: causal, no cache."""
    rows: Tensor | None
    """Of the cache; None: the first ones, which are then read without copying."""
    positions: Tensor
    columns: int


class Policy(nn.Module):
    """A causal language model. `forward(tokens)` gives logits (rows, tokens, vocabulary)."""

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape = shape
        self.model = _Trunk(shape)
        half = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
        angles = torch.outer(torch.arange(shape.positions, dtype=torch.float32), shape.rope_theta**-half)
        angles = torch.cat([angles, angles], -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialise()

    cos: Tensor
    sin: Tensor

    @property
    def device(self) -> torch.device:
        return self.cos.device

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of right-padded sequences; padding never reaches what stands before it."""
        length = tokens.shape[1]
        place = _Place(self.cos[:length], self.sin[:length], None, None, tokens, 0)
        return self._logits(self.model(tokens, place, None))

    def extend(self, tokens: Tensor, lengths: Tensor, cache: Cache) -> Tensor:
        """Append one token to each of rows 0, 1, ... of the cache, which hold `lengths`: logits (rows, vocabulary)."""
        return self._logits(self._append(tokens, lengths, None, cache)[:, -1])

    def fill(self, tokens: Tensor, lengths: Tensor, rows: Tensor, cache: Cache) -> None:
        """Append `tokens` (rows, new) to any rows of the cache. Padding on the right is overwritten by what follows."""
        self._append(tokens, lengths, rows, cache)

    def _append(self, tokens: Tensor, lengths: Tensor, rows: Tensor | None, cache: Cache) -> Tensor:
        device = tokens.device
        positions = lengths[:, None] + torch.arange(tokens.shape[1], device=device)
        columns = int(positions.max()) + 1
        mask = torch.arange(columns, device=device)[None, None, None] <= positions[:, None, :, None]
        known = positions.clamp(max=self.shape.positions - 1)  # only padding can lie beyond
        cos, sin = self.cos[known][:, None], self.sin[known][:, None]
        hidden: Tensor = self.model(tokens, _Place(cos, sin, mask, rows, positions, columns), cache)
        return hidden

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.model.embed_tokens.weight)

    def _initialise(self) -> None:
        """Each residual branch starts at nothing, embeddings at one per dimension, logits at the size of one."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)
            else:
                nn.init.normal_(weight, std=1.0 if "embed" in name else weight.shape[1] ** -0.5)
        nn.init.constant_(self.model.norm.weight, self.shape.hidden**-0.5)

    # ---- Hugging Face folders ------------------------------------------------------------------------------------

    def save(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {**_config(self.shape), "dtype": str(dtype).removeprefix("torch.")}
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        weights = {name: weight.detach().to(dtype).contiguous() for name, weight in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def load(cls, folder: Path) -> Policy:
        """Read a folder of that kind. ValueError: another architecture, or a variant that this module does not know."""
        policy = cls(_shape(json.loads((folder / "config.json").read_text())))
        weights = load_file(folder / "model.safetensors")
        weights.pop("lm_head.weight", None)  # tied: some folders hold the embedding twice
        policy.load_state_dict({name: weight.float() for name, weight in weights.items()})
        return policy


class _Trunk(nn.Module):
    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(_Layer(shape, index) for index in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=_EPS)

    def forward(self, tokens: Tensor, place: _Place, cache: Cache | None) -> Tensor:
        hidden: Tensor = self.embed_tokens(tokens)
        for layer in self.layers:
            hidden = layer(hidden, place, cache)
        normed: Tensor = self.norm(hidden)
        return normed


class _Layer(nn.Module):
    def __init__(self, shape: Architecture, index: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=_EPS)
        self.self_attn = _Attention(shape, index)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=_EPS)
        self.mlp = _Mlp(shape)

    def forward(self, hidden: Tensor, place: _Place, cache: Cache | None) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), place, cache)
        mixed: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return mixed


class _Attention(nn.Module):
    def __init__(self, shape: Architecture, index: int) -> None:
        super().__init__()
        self._index, self._head_dim = index, shape.head_dim
        width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, width, bias=False)
        self.k_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.hidden, kv_width, bias=False)
        self.o_proj = nn.Linear(width, shape.hidden, bias=False)
        self.q_norm = nn.RMSNorm(shape.head_dim, eps=_EPS)
        self.k_norm = nn.RMSNorm(shape.head_dim, eps=_EPS)
        self._grouped = shape.kv_heads != shape.heads

    def forward(self, hidden: Tensor, place: _Place, cache: Cache | None) -> Tensor:
        split = (*hidden.shape[:2], -1, self._head_dim)
        query = _rotate(self.q_norm(self.q_proj(hidden).view(split)).transpose(1, 2), place)
        key = _rotate(self.k_norm(self.k_proj(hidden).view(split)).transpose(1, 2), place)
        value = self.v_proj(hidden).view(split).transpose(1, 2)
        if cache is not None:
            key, value = (
                _stored(store[self._index], new, place) for store, new in ((cache.keys, key), (cache.values, value))
            )
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=place.mask, is_causal=place.mask is None, enable_gqa=self._grouped
        )
        mixed: Tensor = self.o_proj(attended.transpose(1, 2).flatten(2))
        return mixed


class _Mlp(nn.Module):
    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        mixed: Tensor = self.down_proj(F.silu(self.gate_proj(hidden)) * self.up_proj(hidden))
        return mixed


def _stored(store: Tensor, new: Tensor, place: _Place) -> Tensor:
    """Write new keys or values into the cache and return all that the rows hold."""
    rows = torch.arange(len(new), device=new.device) if place.rows is None else place.rows
    store[rows[:, None], :, place.positions] = new.transpose(1, 2)
    return store[: len(new), :, : place.columns] if place.rows is None else store[rows, :, : place.columns]


def _rotate(heads: Tensor, place: _Place) -> Tensor:
    low, high = heads.chunk(2, -1)
    return heads * place.cos + torch.cat([-high, low], -1) * place.sin


_SIZES = {
    "hidden": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "ffn": "intermediate_size",
    "vocabulary": "vocab_size", "positions": "max_position_embeddings",
}  # fmt: skip
_FIXED: dict[str, object] = {
    "model_type": "qwen3",
    "rms_norm_eps": _EPS,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": True,
}


def _config(shape: Architecture) -> dict[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        **_FIXED,
        **{theirs: getattr(shape, ours) for ours, theirs in _SIZES.items()},
    }


def _shape(config: dict[str, Any]) -> Architecture:
    for name, value in _FIXED.items():
        if config.get(name) != value:
            raise ValueError(f"config.json: {name} is {config.get(name)!r}; only {value!r} is implemented")
    rope = config.get("rope_parameters") or {  # as it was written before transformers 5
        "rope_type": "other" if config.get("rope_scaling") else "default", "rope_theta": config.get("rope_theta"),
    }  # fmt: skip
    if rope["rope_type"] != "default":
        raise ValueError(f"config.json: rope_type is {rope['rope_type']!r}; only 'default' is implemented")
    return Architecture(**{ours: config[theirs] for ours, theirs in _SIZES.items()}, rope_theta=rope["rope_theta"])
