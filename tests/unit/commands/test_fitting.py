"""Which columns of a list stand on a terminal."""

import pytest

from registry.commands.output import fitting


@pytest.mark.parametrize(
    ("needs", "room", "count"),
    [
        ((10, 10, 10), 34, 3),
        ((10, 10, 10), 33, 2),
        ((10, 60, 5), 80, 3),
        ((50, 50, 5), 80, 2),
        ((50,), 20, 1),
        ((), 80, 0),
    ],
)
def test_columns_stay_while_they_fit_and_two_always(needs: tuple[int, ...], room: int, count: int) -> None:
    assert fitting(needs, room) == count
