"""The distillation card: a model card that says whose knowledge a student has. No legal advice.

It is a ``huggingface_hub.ModelCard`` (``pip install "kdref[language]"`` brings the package): Markdown with a YAML head,
as models are published with. Numbers are handed to it, each under the name of the function that measured it.
Lesson: notebooks/16_provenance.ipynb.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kdref.lab.course.terms import TERMS, duty, forbidden, terms_of
from kdref.lab.data.files import write_whole

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

__all__ = ["MEASURES", "TAKEN", "distillation_card", "write_card"]

TAKEN = ("logits", "features", "text")
ROLES = {
    "outputs": "Of the teacher",
    "weights": "Of the weights it started from",
    "data": "Of the data",
    "licence": "Who passes it on",
}
INSTALL = 'pip install "kdref[language]"'


class Measure(NamedTuple):
    """How a number is called, and between which bounds it lies."""

    words: str
    least: float = 0.0
    most: float = 1.0
    needed: bool = False


MEASURES: dict[str, Measure] = {
    "accuracy": Measure("accuracy of the student", needed=True),
    "teacher_accuracy": Measure("accuracy of the teacher"),
    "top1_agreement": Measure("agreement with the teacher's choice", needed=True),
    "wrong_answer_agreement": Measure("share of the teacher's mistakes made alike"),
    "error_consistency": Measure("error consistency with the teacher (Cohen's κ)", least=-1.0),
    "expected_calibration_error": Measure("calibration error", needed=True),
}


def distillation_card(
    *,
    student: str,
    licence: str,
    teacher: str,
    teacher_terms: str,
    taken: Sequence[str],
    data: Mapping[str, str],
    loss: str,
    budget: str,
    measured: Mapping[str, float],
    examples: int,
    faults: Sequence[str],
    competes: bool,
    base: str = "",
    base_terms: str = "",
    approved: bool = False,
    alike: bool = True,
) -> "ModelCard":
    """Write a student's card, or refuse what the table of terms forbids.

    Args:
        student: The name to publish it by, with or without an owner.
        licence: Its licence, a key of ``terms.TERMS``: "mit".
        teacher: The teacher's name.
        teacher_terms: Under which terms its answers were had, a key of ``terms.TERMS``.
        taken: What was taken of it: of ``TAKEN``, one or more.
        data: The inputs' data sets, by name, each with its licence, a key of ``terms.TERMS``.
        loss: What was minimised, in words.
        budget: Examples and steps, in words.
        measured: Numbers on test data, by their names in ``MEASURES``: accuracy, ``top1_agreement`` and
            ``expected_calibration_error`` at least. Shares, not per cent.
        examples: On how many test examples.
        faults: Faults of the teacher that the student may have inherited; ["none looked for"] if none was.
        competes: Whether the student does what the teacher's service does. A judgement, and yours.
        base: The model whose weights the student started from, if it did not start from random ones. Only this is
            the head's ``base_model``, which on the hub means weights; the teacher has its own field.
        base_terms: Its licence, a key of ``terms.TERMS``.
        approved: Whether the teacher's owner has approved of the student.
        alike: Whether the student is to perform as its teacher does. A judgement, and yours.

    Returns:
        The card. ``write_card`` writes it, ``ModelCard.load`` reads it again; ``card.data.to_dict()`` has its fields.

    Raises:
        ValueError: If the table of terms forbids the combination (with the clause), or something is missing or wrong.
        ImportError: If huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import ModelCard, ModelCardData
    except ImportError as error:
        raise ImportError(f"a card needs huggingface_hub: {INSTALL}") from error
    named = {"student": student, "teacher": teacher, "loss": loss, "budget": budget}
    _check_words(named)
    _check_taken(taken)
    if not data:
        raise ValueError("data must name at least one data set with its licence: {'digits': 'cc-by-4.0'}")
    if isinstance(faults, str) or not faults:
        raise ValueError(f"faults must be a list of sentences, got {faults!r}: ['none looked for'] if none was")
    if bool(base) != bool(base_terms):
        raise ValueError(f"base and base_terms go together, got {base!r} and {base_terms!r}")
    for key in (teacher_terms, *data.values()):  # text of another teacher may be among the data
        objection = forbidden(
            key,
            student=student,
            licence=licence,
            competes=competes,
            base_terms=base_terms,
            approved=approved,
            alike=alike,
        )
        if objection:
            raise ValueError(f"no card for {student}: {objection.said}. No legal advice.")
    numbers = _numbers(measured)
    facts: dict[str, Any] = {
        "teacher": teacher,
        "teacher_terms": teacher_terms,
        "taken": list(taken),
        "loss": loss,
        "budget": budget,
    }
    facts |= {"measured": numbers, "examples": _counted(examples), "faults": list(faults)}
    head = ModelCardData(
        license=licence,
        base_model=base or None,
        datasets=list(data),
        model_name=student,
        tags=["knowledge-distillation"],
        distillation=facts,
    )
    roles = {"outputs": [teacher_terms], "weights": [base_terms], "data": [*data.values()], "licence": [licence]}
    parts = [_opening(student, teacher, taken, base), _training(loss, budget, data), _table(numbers, examples)]
    parts += [_faults(faults), _duties(roles)]
    return ModelCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def write_card(card: "ModelCard", path: str | Path) -> Path:
    """Write a card, in one go: a README.md beside the weights."""
    return write_whole(Path(path), str(card).encode("utf-8"))


def _opening(student: str, teacher: str, taken: Sequence[str], base: str) -> str:
    start = f"the weights of {base}" if base else "random weights"
    return f"# {student}\n\nA student of {teacher}. Taken of the teacher: {', '.join(taken)}. It started from {start}."


def _training(loss: str, budget: str, data: Mapping[str, str]) -> str:
    sets = "\n".join(f"- {name}, licence {terms_of(key).of}" for name, key in data.items())
    return f"## How it was made\n\nLoss: {loss}. Budget: {budget}. Data:\n\n{sets}"


def _table(numbers: Mapping[str, float], examples: int) -> str:
    rows = "\n".join(f"| {MEASURES[name].words} | {value:.3f} |" for name, value in numbers.items())
    return f"## Measured on {examples:,} test examples\n\n| what | value |\n|:---|---:|\n{rows}"


def _faults(faults: Sequence[str]) -> str:
    return "## Known faults that it may have inherited\n\n" + "\n".join(f"- {fault}" for fault in faults)


def _duties(roles: Mapping[str, Sequence[str]]) -> str:
    """One line for each owner and what the student has of it, in the words of the table."""
    lines = ["Built with Llama.\n"] if any(TERMS[key].begins == "Llama" for key in roles["weights"] if key) else []
    for role, keys in roles.items():
        for key in dict.fromkeys(key for key in keys if key):
            terms = TERMS[key]
            since = f", {terms.date}" if terms.date else ""
            lines.append(f"- {ROLES[role]}, [{terms.of}]({terms.source}){since}: {duty(key, role)}.")
    note = "Read in stored copies, which may be out of date. No legal advice."
    return "## Licences and duties\n\n" + "\n".join(lines) + f"\n\n{note}"


def _counted(examples: int) -> int:
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise ValueError(f"examples must be how many test examples were measured on, got {examples!r}")
    return examples


def _numbers(measured: Mapping[str, Any]) -> dict[str, float]:
    missing = [name for name, measure in MEASURES.items() if measure.needed and name not in measured]
    if missing:
        raise ValueError(f"measured lacks {', '.join(missing)}: measure them with kdref.fidelity on test data")
    numbers = {}
    for name, value in measured.items():
        if name not in MEASURES:
            raise ValueError(f"measured has {name!r}, which is not one of {', '.join(MEASURES)}")
        _, least, most, _ = MEASURES[name]
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be a number, got {value!r}") from None
        if not least <= number <= most:
            raise ValueError(f"{name} must be in [{least:g}, {most:g}], got {number:g}: a share, not per cent")
        numbers[name] = round(number, 6)
    return {name: numbers[name] for name in MEASURES if name in numbers}


def _check_words(named: Mapping[str, Any]) -> None:
    for name, value in named.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} must be said in words, got {value!r}")


def _check_taken(taken: Sequence[str]) -> None:
    if isinstance(taken, str) or not taken or not set(taken) <= set(TAKEN):
        raise ValueError(f"taken must be a list of {', '.join(TAKEN)}, one or more, got {taken!r}")
