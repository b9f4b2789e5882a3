"""A Hugging Face folder small enough for a test: a Qwen3 of two layers whose weights are random, or say one thing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path


def write_model(folder: Path, turn: str | None = None) -> None:
    """With a byte-level tokenizer that knows the paper's markup. `turn`: every turn of it, after `<reason>`; no token
    may come twice in it."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    from sandbox_service.trainer.prompts import IM_END, MARKUP

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
    size = {"intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16, "max_position_embeddings": 16384}
    config = Qwen3Config(
        vocab_size=len(fast), hidden_size=len(fast) if turn else 32, num_attention_heads=2, num_key_value_heads=2,
        eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id, **size,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    if turn:
        tokens = fast.encode("<reason>" + turn, add_special_tokens=False)
        assert len(set(tokens)) == len(tokens)
        # The layers add nothing: a token is a unit vector, and the head knows which one comes after it.
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "o_proj" in name or "down_proj" in name or "lm_head" in name:
                    weight.zero_()
            model.model.embed_tokens.weight.copy_(torch.eye(len(fast)))
            for token, after in pairwise(tokens):
                model.lm_head.weight[after, token] = 50
    model.save_pretrained(folder)
