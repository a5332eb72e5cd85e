"""The table of terms, and the timeline: facts with dates and sources, and what the table forbids."""

import re

import pytest

from kdref.lab.course import projects, terms, timeline
from kdref.lab.course.terms import REASONS, TERMS, Objection, duty, forbidden

DATE = re.compile(r"20\d\d-[01]\d(-[0-3]\d)?( and 20\d\d-[01]\d-[0-3]\d)?")  # two for two documents
OWN = {"student": "me/tiny", "licence": "mit", "competes": False}


@pytest.mark.parametrize("key", TERMS)
def test_each_row_says_all_that_a_reader_asks(key: str) -> None:
    row = TERMS[key]
    assert row.kind in ("service", "model", "data")
    assert not row.date or DATE.fullmatch(row.date)
    assert row.source.startswith("https://")
    for words in (row.of, row.train, row.publish, row.name, row.clause, row.seen):
        assert words.strip()
    assert row.passes_on in ("", "weights", "outputs")
    assert (row.no_competitor or row.approval) == (row.kind == "service")
    assert not row.licence or TERMS[row.licence].kind == "model"
    assert bool(row.duties) == (row.kind != "service")
    assert (row.begins != "") == row.name.startswith("begins")


def test_what_needs_a_date_has_one() -> None:
    undated = {key for key, row in TERMS.items() if not row.date}
    assert undated == {"mit", "cc-by-4.0", "cc-by-sa-3.0"}  # texts that name none


@pytest.mark.parametrize("event", timeline.TIMELINE, ids=lambda event: f"{event.date} {event.who}")
def test_each_event_has_its_source_and_is_called_what_it_is(event: timeline.Event) -> None:
    assert DATE.fullmatch(event.date)
    assert event.source.startswith("https://")
    assert event.read.strip()
    accuses = re.search(r"evidence of|took outputs|fraudulent|to warn of|guilty of", event.what)
    assert event.alleged == bool(accuses)


def test_events_are_in_their_order_and_both_sides_speak() -> None:
    dates = [event.date for event in timeline.TIMELINE]
    assert dates == sorted(dates)
    sides = [event.alleged for event in timeline.TIMELINE]
    assert sides.count(True) >= 3
    assert sides.count(False) >= 3


@pytest.mark.parametrize("service", ["openai", "gemini"])
def test_a_service_forbids_a_competitor_and_nothing_else(service: str) -> None:
    objection = forbidden(service, **{**OWN, "competes": True})
    assert objection is not None
    assert objection.reason == "it competes"
    assert TERMS[service].clause in objection.said
    assert TERMS[service].date in objection.said
    assert TERMS[service].source in objection.said
    assert forbidden(service, **OWN) is None
    with pytest.raises(
        ValueError, match=f"{service} has terms of a service, .*: take one of llama3.1, llama4, gemma, mit"
    ):
        forbidden("mit", **{**OWN, "licence": service})


@pytest.mark.parametrize("competes", [False, True])
def test_anthropic_forbids_every_student_that_it_has_not_approved(competes: bool) -> None:
    student = {**OWN, "competes": competes}
    objection = forbidden("anthropic", **student)
    assert objection is not None
    assert objection.reason == "no approval"
    assert "model distillation" in objection.said
    assert forbidden("anthropic", **student, approved=True) is None
    assert (forbidden("openai", **student, approved=True) is None) != competes, "its terms know no approval"


@pytest.mark.parametrize("llama", ["llama3.1", "llama4"])
def test_a_student_of_llama_bears_its_name_and_one_that_started_from_it_its_licence(llama: str) -> None:
    objection = forbidden(llama, **OWN)
    assert objection is not None
    assert objection.reason == "its name"
    assert objection.said.startswith("the name me/tiny must begin with Llama, by Llama")
    for name in ("Llama-tiny", "me/Llama-tiny"):
        assert forbidden(llama, **{**OWN, "student": name}) is None  # its outputs leave the licence free
    assert forbidden(llama, **{**OWN, "student": "Llama/tiny"}) is not None, "the owner's name is not the model's"
    started = {**OWN, "student": "Llama-tiny", "base_terms": llama}
    assert f"mit alone does not pass on what {llama} asks for" in str(forbidden("deepseek-r1", **started))
    assert forbidden("deepseek-r1", **started, alike=False) is not None, "weights bind whatever they are for"
    assert forbidden("deepseek-r1", **{**started, "licence": llama}) is None
    assert "must begin with Llama" in str(forbidden("deepseek-r1", **{**started, "student": "tiny", "licence": llama}))


def test_gemma_hands_its_terms_on_through_outputs_and_share_alike_through_weights() -> None:
    objection = forbidden("gemma", **OWN)
    assert objection is not None
    assert objection.reason == "its licence"
    assert objection.said.startswith("mit alone does not pass on what gemma asks for, by Gemma")
    assert forbidden("gemma", **{**OWN, "licence": "gemma"}) is None
    assert forbidden("gemma", **OWN, alike=False) is None
    assert forbidden("mit", **OWN, base_terms="gemma", alike=False) is not None
    assert forbidden("cc-by-sa-3.0", **OWN) is None
    assert "mit alone does not pass on what cc-by-sa-3.0 asks for" in str(
        forbidden("mit", **OWN, base_terms="cc-by-sa-3.0")
    )


@pytest.mark.parametrize("free", ["mit", "apache-2.0", "deepseek-r1", "cc-by-4.0"])
def test_free_licences_forbid_nothing(free: str) -> None:
    assert forbidden(free, **{**OWN, "competes": True}) is None
    assert forbidden("mit", **OWN, base_terms=free) is None


def test_a_model_s_name_is_no_licence() -> None:
    with pytest.raises(ValueError, match="deepseek-r1 is a model and no licence: it is under mit"):
        forbidden("mit", **{**OWN, "licence": "deepseek-r1"})


def test_duties_hang_on_what_the_student_has() -> None:
    assert duty("llama3.1", "outputs") == "begin its name with “Llama”"
    assert duty("llama3.1", "data") == duty("llama3.1", "outputs"), "data that Llama wrote are its outputs"
    assert duty("llama3.1", "licence") == duty("llama3.1", "weights") == TERMS["llama3.1"].duties
    assert duty("mit", "outputs") == "nothing, where it learnt from outputs alone"
    assert duty("mit", "data") == duty("mit", "weights") == "keep the notice with copies"
    assert duty("cc-by-4.0", "outputs") == duty("cc-by-4.0", "data") == "credit the data's makers"
    assert duty("gemini", "outputs") == duty("gemini", "data") == "not a model that competes"
    with pytest.raises(ValueError, match="no terms are known as 'llama'"):
        duty("llama", "outputs")


def test_unknown_terms_are_named_with_what_there_is() -> None:
    for wrong in ({"teacher_terms": "llama"}, {"licence": "llama"}, {"base_terms": "llama"}):
        with pytest.raises(ValueError, match=r"no terms are known as 'llama': take one of openai, anthropic, .*or add"):
            forbidden(**{"teacher_terms": "mit", **OWN, **wrong})


def test_both_tables_show_every_row() -> None:
    shown = terms.table()
    assert list(shown.index) == list(TERMS)
    assert shown.loc["llama4", "name"] == "begins with “Llama”"
    assert len(timeline.timeline()) == len(timeline.TIMELINE)
    assert list(timeline.timeline()["read in"]) == [event.read for event in timeline.TIMELINE]
    assert timeline.timeline()[""].tolist().count("alleged") == sum(event.alleged for event in timeline.TIMELINE)


def test_the_projects_have_one_answer_each_and_all_occur() -> None:
    expected = ["it competes", "its name", "its licence", "nothing", "nothing", "its licence", "no approval"]
    assert list(projects.objections().values()) == expected
    assert set(expected) == set(projects.ANSWERS)
    for words, question in projects.PROJECTS.values():
        assert question["student"] in words
        assert Objection(*(forbidden(**question) or ("", ""))).reason in ("", *REASONS)
