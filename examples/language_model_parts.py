"""What distill_language_model.py needs besides distillation: models, their tokeniser, and blocks of text."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM


class Bytes:
    """The tokeniser of the tiny models: a text is its bytes, and 256 ends it."""

    eos_token_id, name_or_path = 256, "bytes"

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}


def tiny_pair() -> tuple[LlamaForCausalLM, LlamaForCausalLM, Bytes]:
    """Teacher, student and tokeniser: a few thousand weights, untrained, to try the script with."""
    ends = {"vocab_size": 257, "pad_token_id": 256, "eos_token_id": 256}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    sizes = [{"hidden_size": h, "intermediate_size": 2 * h, "num_hidden_layers": h // 16} for h in (32, 16)]
    teacher, student = (LlamaForCausalLM(LlamaConfig(**ends, **heads, **size)) for size in sizes)
    return teacher, student, Bytes()


def load(teacher_name: str, student_name: str, device: torch.device) -> tuple[Module, Module, Any]:
    """Teacher, student and their tokeniser; without names the tiny pair."""
    if not (teacher_name and student_name):
        return tiny_pair()
    kept = torch.float32 if device.type == "cpu" else torch.bfloat16
    teacher = AutoModelForCausalLM.from_pretrained(teacher_name, dtype=kept)  # only read: bfloat16 will do
    student = AutoModelForCausalLM.from_pretrained(student_name, dtype=torch.float32)  # trained, under autocast
    tokenizer, other = (AutoTokenizer.from_pretrained(name) for name in (student_name, teacher_name))
    if tokenizer.get_vocab() != other.get_vocab():
        raise ValueError(f"{teacher_name} and {student_name} have other tokens: see universal_logit_loss")
    return teacher, student, tokenizer


def blocks(texts: list[str], tokenizer: Any, length: int) -> Tensor:  # (N, length)
    """All texts behind one another, each with its end, cut into blocks: no padding, so every token counts."""
    ids = [i for text in texts if text.strip() for i in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    if len(ids) < 2 * length:
        raise ValueError(f"{len(ids)} tokens of text don't fill two blocks of --length {length}")
    return torch.tensor(ids[: len(ids) // length * length]).view(-1, length)
