"""Distil a causal language model into a smaller one with the same tokeniser, on a text file: one text a line."""

import argparse
import functools
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from language_model_parts import blocks, load
from torch import Tensor
from torch.nn import Module

from kdref import lab
from kdref.lab.training.stored import StoredOutputs
from kdref.lab.training.storing import store
from kdref.language import fused_linear_loss, sparse_teacher, sparse_teacher_loss, token_loss

OPTIONS = {"teacher": "", "student": "", "text": "", "kind": "forward", "mix": 0.1, "temperature": 1.0, "length": 256}
OPTIONS |= {"label-weight": 0.0, "on-policy": 0.0, "stored": "", "top-k": 64, "epochs": 1, "batch-size": 8}
OPTIONS |= {"accumulate": 1, "learning-rate": 1e-4, "lora": 0, "checkpointing": False, "device": "auto"}
OPTIONS |= {"resume": "", "output": ""}
MIXED = ("jensen_shannon", "skew_forward", "skew_reverse")


def hidden_and_head(model: Module, ids: Tensor) -> tuple[Tensor, Tensor]:  # (B, L, H), (V, H)
    """What the logits are the product of. A family that does more than multiply them is refused."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft wraps it
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(plain.config, name, None) not in (None, 1.0):
            raise ValueError(f"{type(plain).__name__} has {name}: take token_loss of its logits instead")
    return plain.get_decoder()(input_ids=ids).last_hidden_state, plain.get_output_embeddings().weight


def write(student: Module, ids: Tensor, end: int) -> tuple[Tensor, Tensor]:
    """Let the student go on from the first half of each block; True where it wrote, up to its first end of text."""
    start = ids.shape[1] // 2
    settings = {"do_sample": True, "top_k": 0, "max_length": ids.shape[1], "pad_token_id": end}
    written = student.eval().generate(ids[:, :start], attention_mask=torch.ones_like(ids[:, :start]), **settings)
    student.train()
    ends = written[:, start:] == end
    mask = torch.zeros_like(written, dtype=torch.bool)
    mask[:, start:] = ends.cumsum(1) - ends.long() == 0  # no end before it
    return written, mask


def train(teacher: Module, student: Module, ids: Tensor, tokenizer: Any, options: argparse.Namespace) -> None:
    kind = {"kind": options.kind, "mix": options.mix if options.kind in MIXED else None}
    drawn, stored = torch.Generator().manual_seed(0), None
    if options.stored:  # computed once; a run that was stopped goes on there
        pack, names = functools.partial(sparse_teacher, k=options.top_k), ["indices", "log_probs", "tail_log_mass"]
        made = {"device": options.device, "batch_size": options.batch_size, "dtype": torch.float16}
        store(teacher, ids, options.stored, pack=pack, names=names, tokenizer=tokenizer.name_or_path, **made)
        stored = StoredOutputs(options.stored)

    def step(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        x, mask = batch[0].to(options.device), torch.ones_like(batch[0], dtype=torch.bool).to(options.device)
        by_student = float(torch.rand((), generator=drawn)) < options.on_policy
        if by_student:
            x, mask = write(student, x, tokenizer.eos_token_id)
        with torch.autocast(options.device.type, torch.bfloat16, enabled=options.device.type != "cpu"):
            h_s, w_s = hidden_and_head(student, x)
            h_s, seen = h_s[:, :-1].flatten(0, 1), mask[:, 1:].flatten()  # the last token predicts nothing
            if stored is None:
                with torch.no_grad():
                    h_t, w_t = hidden_and_head(teacher, x)
                shared = min(len(w_s), len(w_t))  # one family pads its vocabulary to several sizes: cut both
                sides = h_s, w_s[:shared], h_t[:, :-1].flatten(0, 1), w_t[:shared]
                loss = fused_linear_loss(*sides, **kind, mask=seen, temperature=options.temperature)
            else:
                rows = [stored[int(index)] for index in batch[1]]
                listed = (torch.cat([row[name][:-1] for row in rows]).to(options.device) for name in rows[0])
                loss = sparse_teacher_loss(
                    h_s @ w_s.T, **dict(zip(rows[0], listed, strict=True)), tail="bucket", **kind
                )
            terms = {"divergence": loss}
            if options.label_weight and not by_student:  # its own text is no label
                terms["labels"] = F.cross_entropy((h_s @ w_s.T).float(), x[:, 1:].flatten())
                loss = (1 - options.label_weight) * loss + options.label_weight * terms["labels"]
        return {"loss": loss, **terms}

    batches = lab.Batches(ids, torch.arange(len(ids)), batch_size=options.batch_size, seed=0)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=options.learning_rate)
    settings = {"epochs": options.epochs, "accumulate": options.accumulate, "clip_norm": 1.0, "also": {"drawn": drawn}}
    lab.fit(step, student, batches, optimizer, checkpoint=options.resume or None, **settings)


@torch.no_grad()
def judge(teacher: Module, student: Module, ids: Tensor, options: argparse.Namespace) -> str:
    """On unseen text: the student's perplexity, and its forward divergence from the teacher in nats per token."""
    nats, apart = [], []
    for x in ids.to(options.device).split(1):
        z_s, z_t = (model.eval()(input_ids=x).logits[0, :-1].float() for model in (student, teacher))
        shared = min(z_s.shape[-1], z_t.shape[-1])
        nats.append(F.cross_entropy(z_s, x[0, 1:]))
        apart.append(token_loss(z_s[:, :shared], z_t[:, :shared], kind="forward"))
    return f"{math.exp(torch.stack(nats).mean()):>12.2f} {torch.stack(apart).mean():>22.4f}"


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
        if options.stored and (options.on_policy or options.temperature != 1):
            raise ValueError("--stored holds the text's own tokens at temperature 1: no --on-policy, no --temperature")
        teacher, student, tokenizer = load(options.teacher, options.student, options.device)
        reviews = lab.data.snippets().train.texts
        lines = Path(options.text).read_text("utf-8").splitlines() if options.text else reviews
        ids = blocks(lines, tokenizer, options.length)
        if options.lora:
            import peft

            student = peft.get_peft_model(student, peft.LoraConfig(r=options.lora, target_modules="all-linear"))
        if options.checkpointing:
            student.activation_checkpointing_enable()
        hidden_and_head(student, ids[:1])
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    teacher, student = teacher.to(options.device).eval().requires_grad_(False), student.to(options.device)
    few = max(1, len(ids) // 20)
    print(f"{'':<7}   perplexity  nats from the teacher, {ids[:few].numel()} tokens unseen")
    print(f"before {judge(teacher, student, ids[:few], options)}", flush=True)
    train(teacher, student, ids[few:], tokenizer, options)
    print(f"after  {judge(teacher, student, ids[:few], options)}")
    if options.output:
        student.save_pretrained(options.output)


if __name__ == "__main__":
    main()
