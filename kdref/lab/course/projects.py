"""Seven projects to judge by the table of terms: what is published, in words, and what the table is asked about it.

Lesson: notebooks/16_provenance.ipynb.
"""

from typing import Any

from kdref.lab.course.terms import REASONS, forbidden

__all__ = ["ANSWERS", "PROJECTS", "objections"]

ANSWERS = ("nothing", *REASONS)

PROJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "A": (
        "me/chatty under MIT, a chatbot for sale, started from random weights, taught by answers of OpenAI's service",
        {"teacher_terms": "openai", "student": "me/chatty", "licence": "mit", "competes": True},
    ),
    "B": (
        "me/tiny-math under MIT, started from random weights, taught by text of Llama 3.1",
        {"teacher_terms": "llama3.1", "student": "me/tiny-math", "licence": "mit", "competes": False},
    ),
    "C": (
        "me/Llama-reason under MIT, started from the weights of Llama 3.1, taught by text of DeepSeek-R1",
        {
            "teacher_terms": "deepseek-r1",
            "student": "me/Llama-reason",
            "licence": "mit",
            "competes": False,
            "base_terms": "llama3.1",
        },
    ),
    "D": (
        "me/reason under Apache 2.0, a rival of DeepSeek's own chatbot, started from weights under Apache 2.0, taught "
        "by text of DeepSeek-R1",
        {
            "teacher_terms": "deepseek-r1",
            "student": "me/reason",
            "licence": "apache-2.0",
            "competes": True,
            "base_terms": "apache-2.0",
        },
    ),
    "E": (
        "me/leaves under MIT, which tells plant diseases from photographs and competes with no service, taught by "
        "labels from the Gemini API",
        {"teacher_terms": "gemini", "student": "me/leaves", "licence": "mit", "competes": False},
    ),
    "F": (
        "me/small under MIT, started from random weights, taught by text of Gemma 3 to answer as Gemma does",
        {"teacher_terms": "gemma", "student": "me/small", "licence": "mit", "competes": False},
    ),
    "G": (
        "me/verses under MIT, which writes birthday verses and competes with no service, started from random weights, "
        "taught by answers of Anthropic's service without asking Anthropic",
        {"teacher_terms": "anthropic", "student": "me/verses", "licence": "mit", "competes": False},
    ),
}


def objections() -> dict[str, str]:
    """What the table has against each project: one of ``ANSWERS``."""
    found = {letter: forbidden(**question) for letter, (_, question) in PROJECTS.items()}
    return {letter: objection.reason if objection else ANSWERS[0] for letter, objection in found.items()}
