"""Distil a causal language model into a smaller one with the same tokeniser, on a text file: one text a line."""

import argparse
import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import Module
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from kdref import lab
from kdref.language import fused_linear_loss, sparse_teacher, sparse_teacher_loss, token_loss

OPTIONS = {"teacher": "none", "student": "none", "text": "none", "kind": "forward", "mix": 0.1, "temperature": 1.0}
OPTIONS |= {"label-weight": 0.0, "length": 256, "epochs": 1, "batch-size": 8, "accumulate": 1, "learning-rate": 1e-4}
OPTIONS |= {"on-policy": 0.0, "stored": "none", "top-k": 64, "lora": 0, "checkpointing": False, "device": "auto"}
OPTIONS |= {"resume": "none", "output": "none"}
MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")


class Bytes:
    """The tokeniser of the models made on the spot: a text is its bytes, 256 ends it."""

    eos_token_id = 256

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(text.encode())}


def load(options: argparse.Namespace) -> tuple[Module, Module, Any]:
    """Teacher, student and tokeniser; without names a teacher and a student of a few thousand weights, untrained."""
    if "none" in (options.teacher, options.student):
        sizes = {"vocab_size": 257, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 512}
        small, large = (
            dict(sizes, hidden_size=h, intermediate_size=2 * h, num_hidden_layers=n) for h, n in ((16, 1), (32, 2))
        )
        teacher, student = (LlamaForCausalLM(LlamaConfig(**config)) for config in (large, small))
        return teacher, student, Bytes()
    dtype = torch.float32 if options.device.type == "cpu" else torch.bfloat16
    teacher = AutoModelForCausalLM.from_pretrained(options.teacher, dtype=dtype)  # only read: bfloat16 will do
    student = AutoModelForCausalLM.from_pretrained(options.student, dtype=torch.float32)  # trained: autocast does it
    tokenizers = [AutoTokenizer.from_pretrained(name) for name in (options.teacher, options.student)]
    if tokenizers[0].get_vocab() != tokenizers[1].get_vocab():
        raise ValueError(f"{options.teacher} and {options.student} have other tokens: see universal_logit_loss")
    return teacher, student, tokenizers[1]


def blocks(texts: list[str], tokenizer: Any, length: int) -> torch.Tensor:  # (N, length)
    """All texts behind one another, each with its end, cut into blocks: no padding, so every token counts."""
    ids = [token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    if len(ids) < length:
        raise ValueError(f"{len(ids)} tokens of text don't fill one block of --length {length}")
    return torch.tensor(ids[: len(ids) // length * length]).view(-1, length)


def hidden_and_head(model: Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # (B, L, H), (V, H)
    """What the logits are made of; a family that does more than multiply the two is not for the fused loss."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft wraps it
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(plain.config, name, None) not in (None, 1.0):
            raise ValueError(f"{type(plain).__name__} has {name}: take token_loss of its logits instead")
    return plain.get_decoder()(input_ids=ids).last_hidden_state, plain.get_output_embeddings().weight


def store(teacher: Module, ids: torch.Tensor, options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """The teacher's k likeliest words for every token, computed once and kept in a file that says of which text."""
    path, about = Path(options.stored), {"teacher": options.teacher, "k": str(options.top_k)}
    about["tokens"] = hashlib.sha256(ids.numpy().tobytes()).hexdigest()
    if path.exists():
        with safe_open(path, "pt") as file:
            if file.metadata() != about:
                raise ValueError(f"{path} is of {file.metadata()}, this run is {about}: name another file")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
    found = []
    for part in ids.split(options.batch_size):
        with torch.no_grad():
            logits = teacher(input_ids=part.to(options.device)).logits
        indices, log_probs, tail = sparse_teacher(logits, k=options.top_k)
        found.append((indices.int().cpu(), log_probs.half().cpu(), tail.cpu()))  # half: off by 1/2048 of a logarithm
    kept = dict(zip(("indices", "log_probs", "tail"), map(torch.cat, zip(*found, strict=True)), strict=True))
    save_file(kept, f"{path}.part", about)
    Path(f"{path}.part").replace(path)  # the whole file or none
    return kept


def write(student: Module, ids: torch.Tensor, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Let the student go on from the first half of each block; True where it wrote, its first end of text included."""
    start = ids.shape[1] // 2
    student.eval()
    written = student.generate(
        ids[:, :start],
        attention_mask=torch.ones_like(ids[:, :start]),
        do_sample=True,
        top_k=0,
        max_new_tokens=ids.shape[1] - start,
        pad_token_id=tokenizer.eos_token_id,
    )
    student.train()
    ended = (written[:, start:] == tokenizer.eos_token_id).cumsum(1)
    mask = torch.zeros_like(written, dtype=torch.bool)
    mask[:, start:] = (ended == 0) | ((ended == 1) & (written[:, start:] == tokenizer.eos_token_id))
    return written, mask


def train(
    teacher: Module, student: Module, ids: torch.Tensor, tokenizer: Any, options: argparse.Namespace
) -> list[dict[str, float]]:
    kind = {"kind": options.kind, "mix": options.mix if options.kind in MIXED else None}
    stored = store(teacher, ids, options) if options.stored != "none" else None
    drawn = torch.Generator().manual_seed(0)

    def step(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        x, rows = batch[0].to(options.device), batch[1]
        mask = torch.ones_like(x, dtype=torch.bool)
        if float(torch.rand((), generator=drawn)) < options.on_policy:
            x, mask = write(student, x, tokenizer)
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type != "cpu"):
            h_s, w_s = hidden_and_head(student, x)
            if stored is None:
                with torch.no_grad():
                    h_t, w_t = hidden_and_head(teacher, x)
                shared = min(len(w_s), len(w_t))  # one family pads its vocabulary to several sizes: cut both
                sides = h_s[:, :-1].flatten(0, 1), w_s[:shared], h_t[:, :-1].flatten(0, 1), w_t[:shared]
                loss = fused_linear_loss(*sides, **kind, mask=mask[:, 1:].flatten(), temperature=options.temperature)
            else:
                entries = {name: table[rows][:, :-1].to(options.device) for name, table in stored.items()}
                listed = entries["indices"].long(), entries["log_probs"].float(), entries["tail"]
                loss = sparse_teacher_loss(h_s[:, :-1] @ w_s.T, *listed, tail="bucket", **kind)
            terms = {"divergence": loss}
            if options.label_weight:
                terms["labels"] = torch.nn.functional.cross_entropy(
                    (h_s[:, :-1] @ w_s.T).flatten(0, 1).float(), x[:, 1:].flatten()
                )
                loss = (1 - options.label_weight) * loss + options.label_weight * terms["labels"]
        return {"loss": loss, **terms}

    data = TensorDataset(ids, torch.arange(len(ids)))
    batches = DataLoader(
        data, min(options.batch_size, len(ids)), True, drop_last=True, generator=torch.Generator().manual_seed(0)
    )
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=options.learning_rate)
    checkpoint = None if options.resume == "none" else options.resume
    return lab.fit(
        step,
        student,
        batches,
        optimizer,
        epochs=options.epochs,
        accumulate=options.accumulate,
        clip_norm=1.0,
        checkpoint=checkpoint,
        also={"drawn": drawn},
    )


@torch.no_grad()
def judge(teacher: Module, student: Module, ids: torch.Tensor, options: argparse.Namespace) -> tuple[float, float]:
    """On unseen text: the student's perplexity, and its forward divergence from the teacher in nats per token."""
    nats, apart = [], []
    for x in ids.to(options.device).split(options.batch_size):
        logits, taught = (model.eval()(input_ids=x).logits[:, :-1].float() for model in (student, teacher))
        shared = min(logits.shape[-1], taught.shape[-1])
        nats.append(torch.nn.functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), reduction="none"))
        apart.append(token_loss(logits[..., :shared], taught[..., :shared], kind="forward").expand(len(x)))
    return math.exp(torch.cat(nats).mean()), torch.cat(apart).mean().item()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in OPTIONS.items():
        flag = {"action": "store_true"} if default is False else {"type": type(default), "default": default}
        parser.add_argument(f"--{name}", help=" ", **flag)
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    try:
        found = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        options.device = torch.device(found if options.device == "auto" else options.device)
        if options.stored != "none" and (options.on_policy or options.temperature != 1):
            raise ValueError("--stored holds the text's own words at temperature 1: no --on-policy, no --temperature")
        teacher, student, tokenizer = load(options)
        lines = (
            lab.data.snippets().texts if options.text == "none" else Path(options.text).read_text("utf-8").splitlines()
        )
        ids = blocks([line for line in lines if line.strip()], tokenizer, options.length)
        if options.lora:
            from peft import LoraConfig, get_peft_model

            student = get_peft_model(student, LoraConfig(r=options.lora, target_modules="all-linear"))
        if options.checkpointing:
            student.gradient_checkpointing_enable()
        hidden_and_head(student, ids[:1])
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    teacher, student = teacher.to(options.device).eval().requires_grad_(False), student.to(options.device)
    tested, kept = ids[: max(1, len(ids) // 20)], ids[max(1, len(ids) // 20) :]
    before = judge(teacher, student, tested, options)
    train(teacher, student, kept, tokenizer, options)
    print(f"{'':<10} perplexity of {tested.numel():>6} tokens  nats from the teacher")
    for name, (perplexity, nats) in {"before": before, "after": judge(teacher, student, tested, options)}.items():
        print(f"{name:<10} {perplexity:>27.2f} {nats:>22.4f}")
    if options.output != "none":
        student.save_pretrained(options.output)


if __name__ == "__main__":
    main()
