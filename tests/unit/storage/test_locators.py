import re
from datetime import UTC, datetime, timedelta

import pytest

from storage.blobs import Locator
from storage.errors import Permanent
from storage.locators import check_locator, created_at, new_locator, system_clock

MOMENT = datetime(2026, 5, 4, 12, 0, 0, 123_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "moment",
    [datetime(1970, 1, 1, tzinfo=UTC), MOMENT, datetime(2039, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)],
)
def test_a_locator_carries_its_time(moment: datetime) -> None:
    locator = new_locator(moment)
    assert re.fullmatch("[a-z0-9]{26}", locator)
    assert check_locator(locator) == locator
    assert created_at(locator) == moment


def test_microseconds_are_cut() -> None:
    assert created_at(new_locator(MOMENT + timedelta(microseconds=999))) == MOMENT


def test_locators_of_one_moment_differ_and_later_ones_sort_later() -> None:
    assert len({new_locator(MOMENT) for _ in range(10_000)}) == 10_000
    assert new_locator(MOMENT) < new_locator(MOMENT + timedelta(milliseconds=1))


@pytest.mark.parametrize("name", ["", "u" * 26, "0" * 25 + "l", "z" * 26, "0" * 27, "0" * 25, "A" * 26, "0" * 25 + "/"])
def test_a_name_of_other_origin_has_no_time(name: str) -> None:
    with pytest.raises(ValueError):
        created_at(Locator(name))


def test_an_error_shows_only_the_beginning_of_what_was_given() -> None:
    with pytest.raises(Permanent) as caught:
        check_locator("x\n" * 500)
    assert len(str(caught.value)) < 120
    assert "\n" not in str(caught.value)


def test_the_system_clock_is_aware() -> None:
    assert system_clock().tzinfo is UTC
