"""The glossary, the links that lead to it, and the symbols of the lessons in lesson 00's notation."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LESSONS = {path.stem[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}
SOURCES = {path.stem[:2]: path for path in sorted(NOTEBOOKS.glob("src/[0-9][0-9]_*.py"))}
GLOSSARY = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")

GREEK = "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi chi psi omega ell"


def entries(glossary: str) -> dict[str, str]:
    """Term to what is said about it."""
    found = re.findall(r"^## (.+)\n+((?:(?!#).*\n)*)", glossary, re.MULTILINE)
    return {term: " ".join(text.split()) for term, text in found}


def anchor(term: str) -> str:
    return term.lower().replace(" ", "-")


def glossary_links(text: str) -> list[str]:
    """Anchors that a text links to; an empty one for the page as a whole."""
    return re.findall(r"GLOSSARY\.md(?:#([^)]*))?\)", " ".join(text.split()))


def faults_of(term: str, text: str, lessons: dict[str, Path]) -> list[str]:
    """What is wrong with an entry."""
    faults = [] if re.fullmatch(r"[a-z]+(?:[ -][a-z]+)*", term) else ["not in small letters: anchors would differ"]
    sentences = re.fullmatch(r"(.+\.\)?) \*(?:\[Lesson (\d\d)\]\(([^)]+)\)|Lesson (\d\d))\*", text)
    if sentences is None:
        return [*faults, "does not end in *[Lesson NN](its notebook)*"]
    said, number, link, bare = sentences.groups()
    if len(re.findall(r"[.?](?= |$)", re.sub(r"\([^)]*\)", "", said))) > 2:
        faults.append("more than two sentences")
    if bare:
        return [*faults, f"lesson {bare} is not linked"] if bare in lessons else faults  # others are still to come
    right = number in lessons and link == lessons[number].name
    return faults if right else [*faults, f"links lesson {number} to {link}"]


def markdown(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def source_text(path: Path) -> str:
    """The markdown of a lesson's source."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#"))


def symbols(text: str) -> set[str]:
    """Letters and Greek names in the formulas of a text."""
    found = set()
    for formula in re.findall(r"\$\$.+?\$\$|\$[^$]+?\$", re.sub(r"`[^`\n]*`", "", text), re.DOTALL):
        bare = re.sub(r"\\(?:text|mathrm|begin|end)\{[^}]*\}", " ", formula)
        found |= {name for name in re.findall(r"\\([a-z]+)", bare) if name in GREEK.split()}
        found |= set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", bare)))
    return found


# The glossary ---------------------------------------------------------------------------------------------------------


def test_every_entry_says_what_it_means_and_names_a_lesson_that_there_is() -> None:
    faults = {term: faults_of(term, text, LESSONS) for term, text in entries(GLOSSARY).items()}
    assert {term: found for term, found in faults.items() if found} == {}


def test_entries_are_in_the_order_of_the_alphabet_and_stand_there_once() -> None:
    terms = re.findall(r"^## (.+)$", GLOSSARY, re.MULTILINE)
    assert terms == sorted(set(terms))
    assert len(terms) == len(entries(GLOSSARY)) > 50


@pytest.mark.parametrize("number", sorted({*LESSONS, *SOURCES}))
def test_links_to_the_glossary_reach_an_entry(number: str) -> None:
    known = {"", *map(anchor, entries(GLOSSARY))}
    texts = [markdown(LESSONS[number])] if number in LESSONS else []
    texts += [source_text(SOURCES[number])] if number in SOURCES else []
    assert [link for text in texts for link in glossary_links(text) if link not in known] == []


def test_the_first_lessons_and_the_readme_link_to_it() -> None:
    assert "notebooks/GLOSSARY.md" in (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    assert all(len(glossary_links(source_text(SOURCES[number]))) >= 3 for number in SOURCES)


@pytest.mark.parametrize(
    ("term", "text", "fault"),
    [
        ("CKA", "A. *[Lesson 01](01_a.ipynb)*", "small letters"),
        ("cka", "A.", "does not end"),
        ("cka", "A. B. C. *[Lesson 01](01_a.ipynb)*", "more than two"),
        ("cka", "A. *[Lesson 01](01_b.ipynb)*", "links lesson 01 to 01_b.ipynb"),
        ("cka", "A. *[Lesson 02](02_a.ipynb)*", "links lesson 02"),
        ("cka", "A. *Lesson 01*", "lesson 01 is not linked"),
    ],
)
def test_an_entry_at_fault_is_noticed(term: str, text: str, fault: str) -> None:
    assert fault in "".join(faults_of(term, text, {"01": Path("01_a.ipynb")}))


def test_links_and_entries_are_found() -> None:
    assert glossary_links("[a](GLOSSARY.md#soft-\ntargets) [b\nc](GLOSSARY.md) [d](GLOSSARY.md#d)") == [
        "soft- targets",
        "",
        "d",
    ]
    assert entries("# A\n\nB.\n\n## soft targets\n\nC\nd.\n\n## e\n\nF.\n") == {"soft targets": "C d.", "e": "F."}
    assert faults_of("cka", "A (b. c.). D. *[Lesson 01](01_a.ipynb)*", {"01": Path("01_a.ipynb")}) == []


# Notation -------------------------------------------------------------------------------------------------------------


def notation(text: str) -> tuple[set[str], dict[str, set[str]]]:
    """The symbols that lesson 00 gives to all lessons, and those that it gives to one lesson each."""
    section = text[text.index("## 4. Notation") : text.index("## 5. ")]
    own = dict(re.findall(r"^- \*\*(\d\d):\*\*((?:.+\n)+?)(?=- |\n)", section, re.MULTILINE))
    for lines in own.values():
        section = section.replace(lines, "\n")
    shapes = section[section.index("Letters of shapes") :].split("\n\n")[0]
    everywhere = symbols(section) | set(re.findall(r"\b[A-Z]\b", shapes))
    return everywhere, {number: symbols(lines) for number, lines in own.items()}


@pytest.mark.parametrize("number", [number for number in LESSONS if number != "00"])
def test_every_symbol_of_a_lesson_is_in_the_notation_of_lesson_00(number: str) -> None:
    everywhere, own = notation(source_text(SOURCES["00"]))
    used = symbols(source_text(SOURCES[number]))
    assert sorted(used - everywhere - own.get(number, set())) == [], "explain them in lesson 00, section 4"


def test_symbols_are_found_in_formulas_only() -> None:
    text = "`$b$` $p_{ij} = \\hat q/\\tau$ d\n\n$$\\mathrm{KL}(p \\,\\|\\, \\mathcal L_{\\text{code}}) \\sum_c$$"
    assert symbols(text) == {"p", "i", "j", "q", "tau", "L", "c"}


def test_a_symbol_of_one_lesson_does_not_count_for_another() -> None:
    own = "- **02:** $a$,\n  $b$.\n- **03:** $d$.\n\n"
    text = f"## 4. Notation\n\n$x$ and\n\nLetters of shapes: B examples.\n\n{own}## 5. "
    assert notation(text) == ({"x", "B"}, {"02": {"a", "b"}, "03": {"d"}})
