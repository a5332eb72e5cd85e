"""The distillation card: written, read back, and refused where the table of terms forbids it."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

from kdref import fidelity
from kdref.lab.course.card import MEASURES, distillation_card, write_card
from kdref.lab.course.terms import TERMS

MEASURED = {"accuracy": 0.931, "top1_agreement": 0.95, "expected_calibration_error": 0.024}
RIGHT: dict[str, Any] = {
    "student": "me/tiny-digits",
    "licence": "mit",
    "teacher": "me/large-digits",
    "teacher_terms": "mit",
    "taken": ["logits", "features"],
    "data": {"digits": "cc-by-4.0"},
    "loss": "soft targets: τ = 4, weight 0.9",
    "budget": "1,000 images, 40 epochs",
    "measured": MEASURED,
    "examples": 1797,
    "faults": ["takes 4 for 9 as its teacher does"],
    "competes": False,
}


def test_what_is_written_is_read_back_with_the_same_fields(tmp_path: Path) -> None:
    card = distillation_card(**RIGHT, base="google/small: one", base_terms="apache-2.0")
    read = ModelCard.load(write_card(card, tmp_path / "README.md"))
    assert read.data.to_dict() == card.data.to_dict()
    assert read.text == card.text
    assert str(read) == str(card)
    head = read.data.to_dict()
    assert head["license"] == "mit"
    assert head["base_model"] == "google/small: one"
    assert head["datasets"] == ["digits"]
    assert head["model_name"] == "me/tiny-digits"
    assert head["tags"] == ["knowledge-distillation"]
    names = ("teacher", "teacher_terms", "taken", "loss", "budget", "measured", "examples", "faults")
    assert head["distillation"] == {name: RIGHT[name] for name in names}


def test_a_teacher_is_no_base_model() -> None:
    card = distillation_card(**RIGHT)
    assert "base_model" not in card.data.to_dict()
    assert card.data.to_dict()["distillation"]["teacher"] == "me/large-digits"
    assert "It started from random weights." in card.text


def test_a_reader_finds_everything_in_the_text() -> None:
    text = distillation_card(**RIGHT).text
    for words in (
        "# me/tiny-digits",
        "A student of me/large-digits. Taken of the teacher: logits, features.",
        "Loss: soft targets: τ = 4, weight 0.9. Budget: 1,000 images, 40 epochs.",
        "- digits, licence Creative Commons Attribution 4.0",
        "| accuracy of the student | 0.931 |",
        "| calibration error | 0.024 |",
        "## Measured on 1,797 test examples",
        "- takes 4 for 9 as its teacher does",
        "- Of the teacher, [MIT licence](https://spdx.org/licenses/MIT.html): nothing, where it learnt from outputs",
        "- Of the data, [Creative Commons Attribution 4.0](https://creativecommons.org/licenses/by/4.0/legalcode): "
        "credit the data",
        "- Who passes it on, [MIT licence](https://spdx.org/licenses/MIT.html): keep the notice with copies",
        "No legal advice.",
    ):
        assert words in text
    assert "Built with Llama" not in text
    assert "Of the weights" not in text


def test_measures_are_those_of_lesson_15_and_of_any_test() -> None:
    own = {"accuracy", "teacher_accuracy"}
    assert set(MEASURES) - own <= set(fidelity.__all__)
    numbers = {"error_consistency": torch.tensor(-0.25), **MEASURED, "accuracy": torch.tensor(1)}
    card = distillation_card(**{**RIGHT, "measured": numbers})
    written = card.data.to_dict()["distillation"]["measured"]
    assert list(written) == [name for name in MEASURES if name in numbers]  # always in one order
    assert written["error_consistency"] == -0.25
    assert written["accuracy"] == 1.0


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_a_competitor_of_a_service_gets_no_card_but_the_clause(service: str) -> None:
    with pytest.raises(ValueError, match=r"no card for me/tiny-digits: a student that competes .*forbidden") as caught:
        distillation_card(**{**RIGHT, "teacher_terms": service, "competes": True})
    assert TERMS[service].clause in str(caught.value)
    assert "No legal advice." in str(caught.value)
    with pytest.raises(ValueError, match="a student that competes"):
        distillation_card(**{**RIGHT, "data": {"chats": service}, "competes": True})
    distillation_card(**{**RIGHT, "teacher_terms": service})


@pytest.mark.parametrize("competes", [False, True])
def test_any_student_of_anthropic_needs_its_approval(competes: bool) -> None:
    student = {**RIGHT, "teacher_terms": "anthropic", "competes": competes}
    with pytest.raises(ValueError, match="a student without its teacher's owner's approval is forbidden") as caught:
        distillation_card(**student)
    assert "model distillation" in str(caught.value)
    assert "only if Anthropic has approved it" in distillation_card(**student, approved=True).text


def test_text_of_gemma_binds_a_student_that_is_to_be_like_it() -> None:
    student = {**RIGHT, "teacher_terms": "gemma"}
    with pytest.raises(ValueError, match="mit alone does not pass on what gemma asks for"):
        distillation_card(**student)
    assert "where it is to perform like Gemma" in distillation_card(**student, alike=False).text


def test_llama_asks_for_its_name_and_is_thanked_for_weights() -> None:
    llama = {**RIGHT, "teacher": "meta-llama/Llama-3.1-8B", "teacher_terms": "llama3.1"}
    with pytest.raises(ValueError, match=r"the name me/tiny-digits must begin with Llama, by .*section 1\.b\.i"):
        distillation_card(**llama)
    taught = distillation_card(**{**llama, "student": "me/Llama-tiny"}).text
    assert "begin its name with “Llama”." in taught
    assert "Built with Llama" not in taught, "that is a duty of those who pass on its weights"
    started = {**RIGHT, "student": "Llama-tiny", "base": "meta-llama/Llama-3.1-8B", "base_terms": "llama3.1"}
    with pytest.raises(ValueError, match=r"mit alone does not pass on what llama3\.1 asks for"):
        distillation_card(**started)
    text = distillation_card(**{**started, "licence": "llama3.1"}).text
    assert "Built with Llama.\n" in text
    assert "- Of the weights it started from, [Llama 3.1 Community License]" in text
    assert "give a copy of the agreement" in text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"teacher_terms": "llama"}, "no terms are known as 'llama': take one of openai"),
        ({"data": {"digits": "public"}}, "no terms are known as 'public'"),
        ({"data": {}}, "data must name at least one data set with its licence"),
        ({"licence": "deepseek-r1"}, "deepseek-r1 is a model and no licence: it is under mit"),
        ({"examples": 0}, "examples must be how many test examples were measured on, got 0"),
        ({"examples": True}, "examples must be how many test examples were measured on, got True"),
        ({"examples": 0.5}, "examples must be how many test examples were measured on, got 0.5"),
        ({"licence": "openai"}, "openai has terms of a service, which are no licence for a student"),
        ({"taken": "logits"}, "taken must be a list of logits, features, text, one or more, got 'logits'"),
        ({"taken": ["weights"]}, "taken must be a list of logits, features, text"),
        ({"taken": []}, "taken must be a list"),
        ({"faults": []}, r"faults must be a list of sentences, got \[\]: \['none looked for'\]"),
        ({"faults": "many"}, "faults must be a list of sentences, got 'many'"),
        ({"student": " "}, "student must be said in words, got ' '"),
        ({"loss": None}, "loss must be said in words, got None"),
        ({"base": "someone/else"}, "base and base_terms go together, got 'someone/else' and ''"),
        ({"measured": {"accuracy": 0.9}}, "measured lacks top1_agreement, expected_calibration_error: measure them"),
        ({"measured": {**MEASURED, "accuracy": 93.1}}, r"accuracy must be in \[0, 1\], got 93.1: a share, not per"),
        ({"measured": {**MEASURED, "accuracy": float("nan")}}, r"accuracy must be in \[0, 1\], got nan"),
        ({"measured": {**MEASURED, "accuracy": None}}, "accuracy must be a number, got None"),
        ({"measured": {**MEASURED, "error_consistency": -2}}, r"error_consistency must be in \[-1, 1\], got -2"),
        ({"measured": {**MEASURED, "fidelity": 0.5}}, "measured has 'fidelity', which is not one of accuracy"),
    ],
)
def test_what_is_missing_or_wrong_is_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distillation_card(**{**RIGHT, **wrong})


def test_without_the_hub_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "huggingface_hub":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r'a card needs huggingface_hub: pip install "kdref\[language\]"'):
        distillation_card(**RIGHT)
