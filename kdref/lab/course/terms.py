"""Terms and licences as facts with dates: what they say of a student. No legal advice.

Lesson: notebooks/16_provenance.ipynb, whose table this is; ``kdref.lab.course.card`` refuses what it forbids.

All was read in stored copies of public pages, none of them live: terms change, so read those that bind you. ``seen``
says what was read: the text itself, or what others wrote of it.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["REASONS", "TERMS", "Objection", "Terms", "duty", "forbidden", "table", "terms_of"]

REASONS = ("it competes", "no approval", "its name", "its licence")


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
    approval: bool = False  # any student needs its owner's approval
    begins: str = ""  # how the student's name must begin, once it is distributed
    passes_on: str = ""  # "weights": a student started from them keeps the licence; "outputs": one made alike by them
    duties: str = ""  # of who passes on the weights or the data
    taught: str = ""  # of who passes on a student that learnt from outputs alone
    licence: str = ""  # the licence's own key, where the row is of one model under a common one


_LLAMA_CLAUSE = (
    "section 1.b.i: “If you use the Llama Materials or any outputs or results of the Llama Materials to create, train, "
    "fine tune, or otherwise improve an AI model, which is distributed or made available, you shall also include "
    "“Llama” at the beginning of any such AI model name.” Who distributes the materials or “derivative works thereof” "
    "shall “provide a copy of this Agreement” and “prominently display “Built with Llama””. (Our reading: nothing in "
    "it lets works derived from the weights go under another licence.)"
)


def _llama(version: str, date: str, folder: str, train: str = "yes") -> Terms:
    return Terms(
        kind="model",
        of=f"Llama {version} Community License",
        date=date,
        train=train,
        publish="yes: one taught by its outputs with the name; one from its weights under its licence too",
        name="begins with “Llama”",
        clause=_LLAMA_CLAUSE,
        source=f"https://github.com/meta-llama/llama-models/blob/main/models/{folder}/LICENSE",
        seen="the text",
        begins="Llama",
        passes_on="weights",
        duties="show “Built with Llama”, give a copy of the agreement, keep its notice, follow its use policy",
        taught="begin its name with “Llama”",
    )


TERMS: dict[str, Terms] = {
    "openai": Terms(
        kind="service",
        of="OpenAI services agreement (for the API)",
        date="2026-01-01",
        train="not a model that competes, but for two exceptions",
        publish="not a model that competes",
        name="free",
        clause="3.3: not to “(e) except for a Permitted Exception, use Output to develop artificial intelligence "
        "models that compete with OpenAI's products and services; (f) extract data from the Services other than as "
        "permitted”. Excepted are models “primarily intended to categorize, classify, or organize data (e.g., "
        "embeddings or classifiers), if these models are not distributed or made commercially available to third "
        "parties”, and fine-tuning OpenAI's own models by its services",
        source="https://openai.com/policies/services-agreement/",
        seen="the sentences, quoted alike in several public files",
        no_competitor=True,
    ),
    "anthropic": Terms(
        kind="service",
        of="Anthropic commercial terms and usage policy",
        date="2025-06-17 and 2025-09-15",
        train="only if Anthropic has approved it",
        publish="only if Anthropic has approved it",
        name="free",
        clause="usage policy: no “Utilization of inputs and outputs to train an AI model (e.g., ‘model scraping’ or "
        "‘model distillation’) without prior authorization from Anthropic”; commercial terms D.4: no access “to build "
        "a competing product or service, including to train competing AI models [...] except as expressly approved by "
        "Anthropic”",
        source="https://www.anthropic.com/legal/aup",
        seen="the sentences, quoted alike in several public files; one has a new wording of the same from 2026-11-12 "
        "on, and some tell of a help page that allows narrow tools such as classifiers",
        approval=True,
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
    "llama4": _llama(
        "4", "2025-04-05", "llama4", "yes; multimodal models not if you are at home in the European Union (use policy)"
    ),
    "gemma": Terms(
        kind="model",
        of="Gemma terms of use (Gemma 1 to 3; Gemma 4 is under Apache 2.0)",
        date="2026-04-01",
        train="yes",
        publish="yes; one that is to perform like Gemma, or comes from its weights, with Gemma's use restrictions",
        name="free",
        clause="section 1.1 (e): a derivative is also a model “created by transfer of patterns of the weights, "
        "parameters, operations, or Output of Gemma, to that model in order to cause that model to perform similarly "
        "to Gemma, including distillation methods”; 3.1: who distributes one must “include the use restrictions [...] "
        "as an enforceable provision” in its licence, with a notice and a copy of the terms",
        source="https://ai.google.dev/gemma/terms",
        seen="the text",
        passes_on="outputs",
        duties="pass the use restrictions on in the licence, give a copy of the terms and their notice, mark changes",
        taught="where it is to perform like Gemma: pass the use restrictions on, give a copy of the terms and a notice",
    ),
    "deepseek-r1": Terms(
        kind="model",
        of="DeepSeek-R1, MIT licence",
        date="2025-01-20",
        train="yes",
        publish="yes",
        name="free",
        clause="README, section 7: “support commercial use, allow for any modifications and derivative works, "
        "including, but not limited to, distillation for training other LLMs”; of its distilled models it says that "
        "they are derived from Qwen models “originally licensed” under Apache 2.0 and from Llama models under Llama's",
        source="https://github.com/deepseek-ai/DeepSeek-R1",
        seen="the text; the day of its release in the press",
        duties="keep the notice with copies of its weights",
        licence="mit",
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


def duty(key: str, role: str) -> str:
    """What somebody owes who passes a student on.

    Args:
        key: A key of ``TERMS``.
        role: What of it the student has: "outputs" (text, logits, features), "weights", "data", or "licence", if the
            student is published under it.

    Example: ``duty("llama3.1", "outputs")`` is "begin its name with “Llama”".
    """
    terms = terms_of(key)
    if terms.kind == "service":
        return terms.publish
    if role in ("weights", "licence") or terms.kind == "data":
        return terms.duties
    return terms.taught or (terms.duties if role == "data" else "nothing, where it learnt from outputs alone")


def forbidden(
    teacher_terms: str,
    *,
    student: str,
    licence: str,
    competes: bool,
    base_terms: str = "",
    approved: bool = False,
    alike: bool = True,
) -> Objection | None:
    """Say what the table has against publishing a student, and by which clause; None if it has nothing.

    Args:
        teacher_terms: Under which terms the teacher's answers were had, a key of ``TERMS``.
        student: The name to publish it by, with or without an owner: "me/Llama-tiny".
        licence: The licence to publish it under, a key of ``TERMS`` that names one.
        competes: Whether it does what the teacher's service does. A judgement, and yours.
        base_terms: The licence of the weights that it started from, if it did not start from random ones.
        approved: Whether the teacher's owner has approved of the student.
        alike: Whether it is to perform as its teacher does. A judgement, and yours.

    Raises:
        ValueError: If a key is unknown, or the licence is none.
    """
    if terms_of(licence).kind == "service":
        licences = ", ".join(key for key, terms in TERMS.items() if terms.kind != "service" and not terms.licence)
        raise ValueError(
            f"{licence} has terms of a service, which are no licence for a student: take one of {licences}"
        )
    if name := terms_of(licence).licence:
        raise ValueError(f"{licence} is a model and no licence: it is under {name}")
    for key, role in ((teacher_terms, "outputs"), (base_terms, "weights")):
        if not key:
            continue
        terms = terms_of(key)
        clause = f"{terms.of}{f' ({terms.date})' if terms.date else ''}, {terms.clause} ({terms.source})"
        if terms.no_competitor and competes:
            return Objection(REASONS[0], f"a student that competes with its teacher's service is forbidden by {clause}")
        if terms.approval and not approved:
            return Objection(REASONS[1], f"a student without its teacher's owner's approval is forbidden by {clause}")
        if terms.begins and not student.rpartition("/")[2].startswith(terms.begins):
            return Objection(REASONS[2], f"the name {student} must begin with {terms.begins}, by {clause}")
        bound = terms.passes_on and (role == "weights" or (terms.passes_on == "outputs" and alike))
        if bound and licence != key:
            return Objection(REASONS[3], f"{licence} alone does not pass on what {key} asks for, by {clause}")
    return None


def table() -> "pd.DataFrame":
    """The terms as a table for reading: may I train, may I publish, what must the name be, since when."""
    import pandas as pd

    columns = ["of", "date", "train", "publish", "name", "duties", "taught", "seen"]
    return pd.DataFrame([terms._asdict() for terms in TERMS.values()], index=list(TERMS))[columns]
