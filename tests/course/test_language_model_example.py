"""The language model's example runs whole on models made on the spot, by every loss, stored or not, and goes on."""

import argparse
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

transformers = pytest.importorskip("transformers")

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = [f"{n} bottles of milk stand on the wall, and {n - 1} remain." for n in range(2, 40)]


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return {name: __import__(name) for name in ("language_model_parts", "distill_language_model")}
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(TEXT), encoding="utf-8")
    return path


def options(example: ModuleType, text: Path, **changed: Any) -> argparse.Namespace:
    given = {name.replace("-", "_"): value for name, value in example.OPTIONS.items()}
    return argparse.Namespace(**{**given, "text": str(text), "device": torch.device("cpu"), **changed})


def numbers(said: str) -> dict[str, list[float]]:
    rows = [line.split() for line in said.splitlines() if line.startswith(("before", "after"))]
    return {row[0]: [float(value) for value in row[1:]] for row in rows}


def test_the_example_runs_as_the_readme_says_and_writes_the_student(text: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "distill_language_model.py"), "--text", str(text), "--length", "32"]
    command += ["--learning-rate", "0.01", "--epochs", "2", "--output", str(tmp_path / "student"), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    said = numbers(done.stdout)
    assert said["after"][1] < said["before"][1], "the student is no nearer to its teacher"
    written = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert written.config.num_hidden_layers == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind", "reverse", "--accumulate", "2"],
        ["--kind", "jensen_shannon", "--mix", "0.5", "--label-weight", "0.3"],
        ["--kind", "skew_forward", "--temperature", "2"],
        ["--kind", "reverse", "--on-policy", "1"],
        ["--checkpointing"],
    ],
)
def test_every_way_runs(
    modules: dict[str, ModuleType], text: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    modules["distill_language_model"].main(["--text", str(text), "--length", "32", "--device", "cpu", *arguments])
    assert set(numbers(capsys.readouterr().out)) == {"before", "after"}


def test_a_stored_teacher_with_all_words_teaches_what_the_teacher_does(
    modules: dict[str, ModuleType], text: Path, tmp_path: Path
) -> None:
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    torch.manual_seed(0)
    teacher, student, tokenizer = parts.load("", "", torch.device("cpu"))
    start = {name: value.clone() for name, value in student.state_dict().items()}
    ids = parts.blocks(TEXT, tokenizer, 32)[:16]
    found = []
    for stored in ("", str(tmp_path / "stored")):
        student.load_state_dict(start)
        given = options(example, text, stored=stored, top_k=257, learning_rate=0.01)
        example.train(teacher.eval(), student, ids, tokenizer, given)
        found.append({name: value.clone() for name, value in student.state_dict().items()})
    moved, apart = (
        sum(float((one[name] - other[name]).square().sum()) for name in start) ** 0.5
        for one, other in ((found[0], start), (found[0], found[1]))
    )
    assert apart < 0.05 * moved  # stored in float16, and Adam enlarges what is small


def test_another_teachers_outputs_are_refused(modules: dict[str, ModuleType], text: Path, tmp_path: Path) -> None:
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    given = options(example, text, stored=str(tmp_path / "stored"))
    for seed in (0, 1):
        torch.manual_seed(seed)
        teacher, student, tokenizer = parts.load("", "", torch.device("cpu"))
        ids = parts.blocks(TEXT, tokenizer, 32)[:8]
        if seed == 0:
            example.train(teacher, student, ids, tokenizer, given)
        else:
            with pytest.raises(ValueError, match="teacher"):
                example.train(teacher, student, ids, tokenizer, given)


def test_vocabularies_padded_to_several_sizes_are_cut(modules: dict[str, ModuleType], text: Path) -> None:
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    torch.manual_seed(0)
    teacher, student, tokenizer = parts.load("", "", torch.device("cpu"))
    teacher.resize_token_embeddings(320)
    ids = parts.blocks(TEXT, tokenizer, 32)[:8]
    example.train(teacher, student, ids, tokenizer, options(example, text))
    assert student.get_output_embeddings().weight.grad is not None


def test_the_loss_compares_what_predicts_the_same_token(modules: dict[str, ModuleType], text: Path) -> None:
    """Its first step's gradient is that of the plain forward divergence, all positions but the last."""
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    torch.manual_seed(0)
    teacher, student, tokenizer = parts.load("", "", torch.device("cpu"))
    ids = parts.blocks(TEXT, tokenizer, 32)[:8]
    q, p = (F.log_softmax(model(ids).logits[:, :-1], -1) for model in (student, teacher))
    loss = (p.exp() * (p - q)).sum(-1).mean()
    expected = torch.autograd.grad(loss, student.get_output_embeddings().weight)[0]
    seen: list[torch.Tensor] = []
    student.get_output_embeddings().weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    example.train(teacher.requires_grad_(False), student, ids, tokenizer, options(example, text))
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-6)


def test_what_the_student_writes_counts_up_to_its_first_end(modules: dict[str, ModuleType]) -> None:
    class Writer(torch.nn.Module):
        def generate(self, prompt: torch.Tensor, **settings: Any) -> torch.Tensor:
            assert settings["do_sample"]
            assert settings["top_k"] == 0
            return torch.cat([prompt, torch.tensor([[7, 9, 9, 9], [7, 8, 7, 9]])], 1)

    written, mask = modules["distill_language_model"].write(Writer(), torch.zeros(2, 8, dtype=torch.long), end=9)
    assert written.shape == (2, 8)
    assert mask.tolist() == [[False] * 4 + [True, True, False, False], [False] * 4 + [True] * 4]


def test_an_interrupted_training_goes_on_to_the_same_student(
    modules: dict[str, ModuleType], text: Path, tmp_path: Path
) -> None:
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    found = []
    for epochs in ([2], [1, 2]):
        torch.manual_seed(0)
        teacher, student, tokenizer = parts.load("", "", torch.device("cpu"))
        ids = parts.blocks(TEXT, tokenizer, 32)[:16]
        start = {name: value.clone() for name, value in student.state_dict().items()}
        for count in epochs:
            student.load_state_dict(start)
            checkpoint = str(tmp_path / f"{len(epochs)}.pt")
            example.train(teacher, student, ids, tokenizer, options(example, text, epochs=count, resume=checkpoint))
        found.append(student.state_dict())
    torch.testing.assert_close(dict(found[0]), dict(found[1]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "100000"], "don't fill two blocks"),
        (["--stored", "x", "--on-policy", "0.5"], "no --on-policy"),
        (["--teacher", "/nowhere", "--student", "/nowhere"], "nowhere"),
        (["--text", "/nowhere.txt"], "nowhere.txt"),
    ],
)
def test_bad_input_is_told_in_one_line(
    modules: dict[str, ModuleType], text: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as end:
        modules["distill_language_model"].main(["--text", str(text), "--length", "32", *arguments])
    assert end.value.code == 1
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_family_that_does_more_than_multiply_is_refused(modules: dict[str, ModuleType]) -> None:
    teacher, *_ = modules["language_model_parts"].tiny_pair()
    teacher.config.final_logit_softcapping = 30.0
    with pytest.raises(ValueError, match="final_logit_softcapping: take token_loss"):
        modules["distill_language_model"].hidden_and_head(teacher, torch.zeros(1, 4, dtype=torch.long))


def test_qwen_works_as_well_as_llama(modules: dict[str, ModuleType], text: Path, tmp_path: Path) -> None:
    example, parts = modules["distill_language_model"], modules["language_model_parts"]
    sizes = {"vocab_size": 257, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 8}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True}
    teacher, student = (transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**sizes)) for _ in range(2))
    before = student.get_output_embeddings().weight.detach().clone()
    ids = parts.blocks(TEXT, parts.Bytes(), 32)[:8]
    example.train(teacher.eval().requires_grad_(False), student, ids, parts.Bytes(), options(example, text))
    assert not torch.equal(student.get_output_embeddings().weight, before)


def test_lora_writes_only_what_it_adds(modules: dict[str, ModuleType], text: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    arguments = ["--text", str(text), "--length", "32", "--lora", "2", "--device", "cpu", "--learning-rate", "0.01"]
    modules["distill_language_model"].main([*arguments, "--output", str(tmp_path / "student")])
    written = load_file(tmp_path / "student" / "adapter_model.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in written)
    assert any(tensor.count_nonzero() for name, tensor in written.items() if ".lora_B." in name), "B starts at zero"
