"""The table of the museum that lesson 15 shows is the museum's own."""

from tests.museum import EXHIBITS, table


def test_the_stored_table_is_what_the_exhibits_say() -> None:
    written = table.FILE.read_text(encoding="utf-8")
    assert written == table.text(), "write it anew: python -m tests.museum.table"
    assert len(written.splitlines()) == len(EXHIBITS) + 1


def test_each_row_says_what_is_wrong_where_it_was_seen_and_who_notices() -> None:
    for row in table.rows():
        assert len(row) == len(table.COLUMNS)
        assert all(word.strip() for word in row), row
