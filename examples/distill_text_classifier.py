"""Distil a text classifier of Hugging Face into one with fewer of its layers, with transformers' own Trainer."""

import argparse
import copy
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import Module, ModuleList
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from kdref import lab
from kdref.lab.models import sentence_encoder
from kdref.language import alternate_layers, distilbert_loss

OPTIONS = {"data": "none", "text-column": "text", "label-column": "label", "model": "none", "teacher": "none"}
OPTIONS |= {"layers": 0, "epochs": 3, "batch-size": 32, "learning-rate": 5e-5, "length": 128, "examples": 0}
OPTIONS |= {"soft-weight": 5.0, "hard-weight": 2.0, "hidden-weight": 1.0, "temperature": 2.0, "output": "none"}


class Distiller(Trainer):
    """Trains a model by DistilBERT's loss; without a teacher by cross-entropy, as Trainer does."""

    def __init__(self, *arguments: Any, teacher: Module | None, weights: dict[str, float], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.teacher, self.weights = teacher, weights
        self.model_accepts_loss_kwargs = False  # our loss is a mean: Trainer divides by the accumulated batches

    def compute_loss(
        self, model: Module, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> Any:
        if self.teacher is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        outputs = model(**inputs, output_hidden_states=True)
        with torch.no_grad():
            taught = self.teacher(**inputs, output_hidden_states=True)
        last = outputs.hidden_states[-1], taught.hidden_states[-1]
        mask = inputs["attention_mask"].bool()  # padding has hidden states too, and they mean nothing
        loss = distilbert_loss(outputs.logits, taught.logits, *last, inputs["labels"], mask=mask, **self.weights)
        return (loss, outputs) if return_outputs else loss


def read(options: argparse.Namespace) -> pd.DataFrame:
    """Texts and labels of a CSV, JSON or JSON-lines file; without one, the embedded film reviews."""
    if options.data == "none":
        parts = lab.data.snippets()
        table = pd.concat(pd.DataFrame({"text": p.texts, "label": p.y}) for p in (parts.train, parts.validation))
    else:
        kinds = {".csv": pd.read_csv, ".json": pd.read_json}
        kinds[".jsonl"] = functools.partial(pd.read_json, lines=True)
        if Path(options.data).suffix not in kinds:
            raise ValueError(f"{options.data} must end in one of {sorted(kinds)}")
        table = kinds[Path(options.data).suffix](options.data)
        missing = {options.text_column, options.label_column} - set(table)
        if missing:
            raise ValueError(f"{options.data} has the columns {list(table)}, not {sorted(missing)}: see --text-column")
        table = table.rename(columns={options.text_column: "text", options.label_column: "label"})
    lost = table[["text", "label"]].isna().any(axis=1).sum()
    if lost:
        raise ValueError(f"{lost} of {len(table)} rows have no text or no label")
    table = table.sample(frac=1, random_state=0)[: options.examples or None]
    if table["label"].nunique() < 2:
        raise ValueError(f"all labels are {table['label'].unique().tolist()}: there is nothing to tell apart")
    return table


def encoded(table: pd.DataFrame, names: list[Any], tokenizer: Any, length: int) -> list[dict[str, Any]]:
    ids = tokenizer([str(text) for text in table["text"]], truncation=True, max_length=length)
    labels = [names.index(label) for label in table["label"]]
    return [{**{key: ids[key][i] for key in ids}, "labels": label} for i, label in enumerate(labels)]


def with_layers(model: Module, count: int) -> Module:
    """A copy with some of its layers, from the first to the last."""
    small = copy.deepcopy(model)
    depth = small.config.num_hidden_layers
    stacks = [(owner, name, stack) for owner in small.modules() for name, stack in owner.named_children()]
    stacks = [
        (owner, name, stack) for owner, name, stack in stacks if isinstance(stack, ModuleList) and len(stack) == depth
    ]
    if len(stacks) != 1:
        raise ValueError(f"{type(model).__name__} has {len(stacks)} lists of {depth} layers: choose its layers by hand")
    ((owner, name, stack),) = stacks
    setattr(owner, name, ModuleList([stack[i] for i in alternate_layers(depth, count or depth // 2, keep_last=True)]))
    small.config.num_hidden_layers = len(getattr(owner, name))
    return small


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    try:
        table = read(options)
        names = sorted(table["label"].unique().tolist(), key=str)
        source = str(sentence_encoder.source()) if options.model == "none" else options.model
        tokenizer = AutoTokenizer.from_pretrained(source)
        pretrained = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(names))
        student = with_layers(pretrained, options.layers)
        teacher = pretrained
        if options.teacher != "none":  # fine-tuned already, on these labels in this order
            teacher = AutoModelForSequenceClassification.from_pretrained(options.teacher, num_labels=len(names))
        rows = encoded(table, names, tokenizer, options.length)
    except Exception as error:  # nothing is trained yet: one line says enough
        parser.exit(1, f"{parser.prog}: {type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
    tested, kept = rows[: len(rows) // 5 or 1], rows[len(rows) // 5 or 1 :]
    weights = {name: getattr(options, name) for name in ("soft_weight", "hard_weight", "hidden_weight", "temperature")}

    quiet = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    quiet["dataloader_pin_memory"] = torch.cuda.is_available()
    sizes = dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), options.batch_size)
    numbers = {"num_train_epochs": options.epochs, "learning_rate": options.learning_rate, "seed": 0, **sizes}

    def trained(model: Module, by: Module | None) -> Distiller:
        with tempfile.TemporaryDirectory() as folder:
            settings = TrainingArguments(output_dir=folder, **numbers, **quiet)
            given = {"processing_class": tokenizer, "train_dataset": kept, "teacher": by, "weights": weights}
            trainer = Distiller(model, settings, **given)
            if by is not None:
                by.to(settings.device).eval().requires_grad_(False)
            trainer.train()
        return trainer

    distilled = copy.deepcopy(student)  # the same initial weights
    if options.teacher == "none":
        trained(teacher, None)
    trained(student, None)
    judge = trained(distilled, teacher)
    print(f"{'':<18} accuracy of {len(tested):>5}  parameters")
    for name, model in {"teacher": teacher, "student alone": student, "student distilled": distilled}.items():
        judge.model = judge.model_wrapped = model
        right = np.mean(judge.predict(tested).predictions.argmax(-1) == [row["labels"] for row in tested])
        print(f"{name:<18} {right:>17.1%} {sum(p.numel() for p in model.parameters()):>11,}")
    if options.output != "none":
        distilled.config.id2label = dict(enumerate(map(str, names)))
        distilled.save_pretrained(options.output)
        tokenizer.save_pretrained(options.output)


if __name__ == "__main__":
    main()
