"""Each row of what is attacked has a test, and docs/security.md says which."""

from tests import security_rows


def test_every_row_has_a_test() -> None:
    assert security_rows.missing() == []


def test_the_page_is_up_to_date() -> None:
    assert security_rows.PAGE.read_text("utf-8") == security_rows.page()
