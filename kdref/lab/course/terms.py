"""Terms and licences as facts with dates: what they say of a student. No legal advice.

Lesson: notebooks/16_provenance.ipynb, whose table this is; ``kdref.lab.course.card`` refuses what it forbids.

All was read in stored copies of public pages, none of them live: terms change, so read those that bind you. ``seen``
says what was read: the text itself, or what others wrote of it.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REASONS", "TERMS", "Objection", "Terms", "forbidden", "table", "terms_of"]

REASONS = ("it competes", "its name", "its licence")


class Terms(NamedTuple):
    """What one document says of a student that learnt from what it governs."""

    kind: str  # "service", "model" or "data"
    of: str
    date: str  # in force since, or as described on; empty for licences that name none
    train: str  # may I train a student with it?
    publish: str  # may I publish the student?
    name: str  # what must its name be?
    clause: str
    source: str
    seen: str
    no_competitor: bool = False  # a student that competes is forbidden
    begins: str = ""  # how the student's name must begin, once it is distributed
    passes_on: str = ""  # "weights": a student started from them keeps the licence; "outputs": one taught by them too
    duties: str = ""


_LLAMA_CLAUSE = (
    "section 1.b.i: “If you use the Llama Materials or any outputs or results of the Llama Materials to create, train, "
    "fine tune, or otherwise improve an AI model, which is distributed or made available, you shall also include "
    "“Llama” at the beginning of any such AI model name.” Who distributes derivative works shall “provide a copy of "
    "this Agreement” and “prominently display “Built with Llama””"
)


def _llama(version: str, date: str, folder: str) -> Terms:
    return Terms(
        kind="model",
        of=f"Llama {version} Community License",
        date=date,
        train="yes",
        publish="yes, with its duties",
        name="begins with “Llama”",
        clause=_LLAMA_CLAUSE,
        source=f"https://github.com/meta-llama/llama-models/blob/main/models/{folder}/LICENSE",
        seen="the text",
        begins="Llama",
        passes_on="weights",
        duties="show “Built with Llama”, give a copy of the agreement, keep its notice, follow its use policy",
    )


TERMS: dict[str, Terms] = {
    "openai": Terms(
        kind="service",
        of="OpenAI terms of use",
        date="2026-01-01",
        train="not a model that competes",
        publish="not a model that competes",
        name="free",
        clause="among what you cannot do: “Use Output to develop models that compete with OpenAI.”",
        source="https://openai.com/policies/row-terms-of-use/",
        seen="the date in a description of the page; the sentence in copies of earlier versions and in the press",
        no_competitor=True,
    ),
    "anthropic": Terms(
        kind="service",
        of="Anthropic commercial terms of service",
        date="2025-06-17",
        train="not a model that competes, unless approved",
        publish="not a model that competes, unless approved",
        name="free",
        clause="use restrictions: no access to build a competing product or to train competing AI models, unless "
        "Anthropic approves it expressly",
        source="https://www.anthropic.com/legal/commercial-terms",
        seen="a description of the terms with their date",
        no_competitor=True,
    ),
    "gemini": Terms(
        kind="service",
        of="Gemini API additional terms of service",
        date="2026-03-23",
        train="not a model that competes",
        publish="not a model that competes",
        name="free",
        clause="use restrictions: “You may not use the Services to develop models that compete with the Services "
        "(e.g., Gemini API or Google AI Studio).”",
        source="https://ai.google.dev/gemini-api/terms",
        seen="the text, as quoted in a public discussion, and in copies of three earlier versions",
        no_competitor=True,
    ),
    "llama3.1": _llama("3.1", "2024-07-23", "llama3_1"),
    "llama4": _llama("4", "2025-04-05", "llama4"),
    "gemma": Terms(
        kind="model",
        of="Gemma terms of use",
        date="2025-02-21",
        train="yes",
        publish="yes, under the same terms",
        name="free",
        clause="section 1.1 (e): model derivatives are also models made “by transfer of patterns of the weights, "
        "parameters, operations, or Output of Gemma”, “including distillation methods”",
        source="https://ai.google.dev/gemma/terms",
        seen="the definition, as quoted in a public discussion; what follows, as described on that date",
        passes_on="outputs",
        duties="pass the terms and their use restrictions on",
    ),
    "deepseek-r1": Terms(
        kind="model",
        of="DeepSeek-R1, MIT licence",
        date="2025-01-20",
        train="yes",
        publish="yes",
        name="free",
        clause="README, section 7: “support commercial use, allow for any modifications and derivative works, "
        "including, but not limited to, distillation for training other LLMs”; its distilled models keep the licence "
        "of the Qwen or Llama model that they started from",
        source="https://github.com/deepseek-ai/DeepSeek-R1",
        seen="the text; the day of its release in the press",
        duties="keep the notice with copies of its weights",
    ),
    "mit": Terms(
        kind="model",
        of="MIT licence",
        date="",
        train="yes",
        publish="yes",
        name="free",
        clause="the copyright notice and the permission notice go with all copies and substantial portions",
        source="https://spdx.org/licenses/MIT.html",
        seen="the text",
        duties="keep the notice with copies",
    ),
    "apache-2.0": Terms(
        kind="model",
        of="Apache License 2.0",
        date="2004-01",
        train="yes",
        publish="yes",
        name="free",
        clause="section 4: give a copy of the licence, keep notices, mark changed files",
        source="https://spdx.org/licenses/Apache-2.0.html",
        seen="the text",
        duties="keep notices with copies, mark what you changed",
    ),
    "cc-by-4.0": Terms(
        kind="data",
        of="Creative Commons Attribution 4.0",
        date="",
        train="yes",
        publish="yes, with credit",
        name="free",
        clause="section 3(a)(1): who shares the material, also modified, names its makers, the licence and the changes",
        source="https://creativecommons.org/licenses/by/4.0/legalcode",
        seen="the text",
        duties="credit the data's makers",
    ),
    "cc-by-sa-3.0": Terms(
        kind="data",
        of="Creative Commons Attribution-ShareAlike 3.0",
        date="",
        train="yes",
        publish="yes, with credit, and here under the same licence: whether a model adapts its data is not settled",
        name="free",
        clause="section 4(b): “You may Distribute or Publicly Perform an Adaptation only under the terms of: (i) this "
        "License; (ii) a later version of this License with the same License Elements”",
        source="https://creativecommons.org/licenses/by-sa/3.0/legalcode",
        seen="the text",
        passes_on="weights",
        duties="credit the data's makers, share adapted data alike",
    ),
}


class Objection(NamedTuple):
    """What the table has against a student."""

    reason: str  # one of REASONS
    said: str  # with the clause, its date and its source


def terms_of(key: str) -> Terms:
    """Look up terms by their short name.

    Raises:
        ValueError: If there are none of that name.
    """
    if key not in TERMS:
        raise ValueError(f"no terms are known as {key!r}: take one of {', '.join(TERMS)}, or add yours to TERMS")
    return TERMS[key]


def forbidden(
    teacher_terms: str,
    *,
    student: str,
    licence: str,
    competes: bool,
    base_terms: str = "",
) -> Objection | None:
    """Say what the table has against publishing a student, and by which clause; None if it has nothing.

    Args:
        teacher_terms: Under which terms the teacher's answers were had, a key of ``TERMS``.
        student: The name to publish it by, with or without an owner: "me/Llama-tiny".
        licence: The licence to publish it under, a key of ``TERMS`` that is no service's.
        competes: Whether it does what the teacher's service does. A judgement, and yours.
        base_terms: The licence of the weights that it started from, if it did not start from random ones.

    Raises:
        ValueError: If a key is unknown, or the licence is a service's terms.
    """
    if terms_of(licence).kind == "service":
        licences = ", ".join(key for key, terms in TERMS.items() if terms.kind != "service")
        raise ValueError(
            f"{licence} has terms of a service, which are no licence for a student: take one of {licences}"
        )
    for key, role in ((teacher_terms, "outputs"), (base_terms, "weights")):
        if not key:
            continue
        terms = terms_of(key)
        clause = f"{terms.of}{f' ({terms.date})' if terms.date else ''}, {terms.clause} ({terms.source})"
        if terms.no_competitor and competes:
            return Objection(REASONS[0], f"a student that competes with its teacher's service is forbidden by {clause}")
        if terms.begins and not student.rpartition("/")[2].startswith(terms.begins):
            return Objection(REASONS[1], f"the name {student} must begin with {terms.begins}, by {clause}")
        if terms.passes_on in (role, "outputs") and licence != key:
            return Objection(REASONS[2], f"the licence must be {key} and not {licence}, by {clause}")
    return None


def table() -> "pd.DataFrame":
    """The terms as a table for reading: may I train, may I publish, what must the name be, since when."""
    import pandas as pd

    columns = ["of", "date", "train", "publish", "name", "duties", "seen"]
    return pd.DataFrame([terms._asdict() for terms in TERMS.values()], index=list(TERMS))[columns]
