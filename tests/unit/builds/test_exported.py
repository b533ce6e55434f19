"""What a build may export: as much as a pipeline takes, and as fits into what a runner tells at its end."""

import json

import pytest

from hooks.builds.exported import MOST_BYTES, MOST_VARIABLES, bounded

JSON_BODY_BYTES = 1024 * 1024


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"A": "x" * 20_000}, 1),
        ({f"V{number}": "x" * 10_000 for number in range(200)}, 12),
        ({f"V{number}": "\x07" * 10_000 for number in range(200)}, 12),
        ({f"V{number}": "\N{GRINNING FACE}" * 10_000 for number in range(200)}, 3),
        ({f"V{number}": "" for number in range(2000)}, MOST_VARIABLES),
        ({"N" * 256: "x", "A": "b"}, 1),
    ],
)
def test_what_is_exported_fits_and_what_does_not_is_told_of(values: dict[str, str], count: int) -> None:
    told: list[str] = []
    kept = bounded(values, told.append)
    assert len(kept) == count
    assert all(kept[name] == values[name][:10_000] for name in kept)
    assert sum(len((name + value).encode()) for name, value in kept.items()) <= MOST_BYTES
    assert len(json.dumps(kept).encode()) < JSON_BODY_BYTES
    assert bool(told) == (len(kept) < len(values))
