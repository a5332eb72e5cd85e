"""The text classifier's example runs as a user runs it, on a small BERT and a file written here."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

transformers = pytest.importorskip("transformers")

from kdref.lab.models import sentence_encoder  # noqa: E402
from kdref.language import distilbert_loss  # noqa: E402
from tests.course.scripts import EXAMPLES, imported, refusal  # noqa: E402

EXAMPLE = EXAMPLES / "distill_text_classifier.py"
WORDS = {"good": "fine lovely great", "bad": "poor dull awful", "odd": "strange weird curious"}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    return imported("distill_text_classifier")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of four narrow layers with the embedded encoder's tokeniser, as a folder."""
    folder = tmp_path_factory.mktemp("bert")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(sentence_encoder.source()).save_pretrained(folder)
    return folder


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        elif path.suffix == ".jsonl":
            file.write("\n".join(map(json.dumps, rows)))
        else:
            json.dump(rows, file)
    return path


def reviews(text: str = "text", label: str = "label") -> list[dict[str, str]]:
    return [
        {text: f"a {word} film, number {n}", label: name}
        for n in range(3)
        for name in WORDS
        for word in WORDS[name].split()
    ]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_file_of_ones_own_is_read_whatever_its_columns_are_called(
    example: ModuleType, tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"mine{suffix}", reviews("review", "said"))
    options = example.argparse.Namespace(data=str(path), text_column="review", label_column="said", examples=0)
    table = example.read(options)
    assert len(table) == 27
    assert sorted(table["label"].unique()) == sorted(WORDS)
    assert list(table["label"]) != [row["said"] for row in reviews("review", "said")]  # shuffled


def test_the_example_trains_three_classifiers_and_writes_one_that_can_be_read(model: Path, tmp_path: Path) -> None:
    data, written = write(tmp_path / "mine.csv", reviews()), tmp_path / "student"
    command = [sys.executable, str(EXAMPLE), "--data", str(data), "--model", str(model), "--epochs", "1"]
    done = subprocess.run([*command, "--output", str(written)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()[-4:]
    assert head.split() == ["accuracy", "of", "5", "parameters"]
    assert [row[:18].strip() for row in rows] == ["teacher", "student alone", "student distilled"]
    teacher, alone, distilled = (int(row.split()[-1].replace(",", "")) for row in rows)
    assert alone == distilled < teacher
    student = transformers.AutoModelForSequenceClassification.from_pretrained(written)
    assert student.config.num_hidden_layers == 2
    assert student.config.id2label == {0: "bad", 1: "good", 2: "odd"}


def test_the_student_starts_from_layers_of_the_teacher_and_its_loss_is_distilberts(
    example: ModuleType, model: Path, tmp_path: Path
) -> None:
    teacher = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=3).eval()
    student = example.with_layers(teacher, 2).eval()
    for ours, theirs in ((0, 0), (1, 3)):
        state, other = (m.bert.encoder.layer[i].state_dict() for m, i in ((student, ours), (teacher, theirs)))
        torch.testing.assert_close(state, other, rtol=0, atol=0)
    weights = {"soft_weight": 5.0, "hard_weight": 2.0, "hidden_weight": 1.0, "temperature": 2.0}
    settings = transformers.TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    trainer = example.Distiller(student, settings, teacher=teacher, weights=weights)
    inputs = {"input_ids": torch.tensor([[101, 2204, 102], [101, 102, 0]]), "labels": torch.tensor([0, 2])}
    inputs["attention_mask"] = (inputs["input_ids"] != 0).long()
    student.train()
    for part in student.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    ours, theirs = (m(**inputs, output_hidden_states=True) for m in (student, teacher))
    last, mask = (ours.hidden_states[-1], theirs.hidden_states[-1]), inputs["attention_mask"].bool()
    expected = distilbert_loss(ours.logits, theirs.logits, *last, inputs["labels"], mask=mask, **weights)
    torch.testing.assert_close(trainer.compute_loss(student, inputs), expected)
    student.eval()
    torch.testing.assert_close(trainer.compute_loss(student, inputs), student(**inputs).loss)  # judged as all are


def test_accumulated_batches_give_the_gradient_of_their_mean(example: ModuleType, model: Path, tmp_path: Path) -> None:
    """The trainer leaves the division to models that promise to do it; ours is a mean, and must be divided."""
    teacher = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
    settings = transformers.TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    weights = {"soft_weight": 5.0, "hard_weight": 2.0, "hidden_weight": 1.0, "temperature": 2.0}
    trainer = example.Distiller(example.with_layers(teacher, 2), settings, teacher=teacher, weights=weights)
    assert trainer.model_accepts_loss_kwargs is False


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("mine.txt", reviews(), "must end in one of"),
        ("mine.csv", reviews("sentence"), "not ['text']"),
        ("mine.csv", [{"text": "a", "label": ""}, {"text": "b", "label": "x"}], "1 of 2 rows have no text or no label"),
        ("mine.csv", [{"text": "a", "label": "x"}] * 3, "nothing to tell apart"),
        ("absent.csv", None, "absent.csv"),
    ],
)
def test_bad_input_is_told_in_one_line(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, rows, message: str
) -> None:
    if rows is not None:
        write(tmp_path / name, rows)
    assert message in refusal(example, capsys, "--data", tmp_path / name)
