"""What is said of SQLite: loudly where it is affected, and nothing where it is not used."""

import logging
from pathlib import Path

import pytest

from config import settings, sqlite

AFFECTED, SOUND = (3, 40, 1), (3, 51, 3)


def of(url: str = "") -> settings.Settings:
    return settings.load(Path("/nowhere"), {}, database={"url": url})


POSTGRES = of("postgresql+psycopg://u:p@h/n")


def test_an_affected_version_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    sqlite.warn(of(), AFFECTED)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "SQLite 3.40.1" in record.getMessage()
    assert "journal mode DELETE" in record.getMessage()


def test_a_sound_version_and_postgresql_are_not(caplog: pytest.LogCaptureFixture) -> None:
    sqlite.warn(of(), SOUND)
    sqlite.warn(POSTGRES, AFFECTED)
    assert caplog.records == []


def test_what_is_in_use_is_described() -> None:
    assert sqlite.describe(of(), AFFECTED) == "3.40.1, journal mode DELETE; WAL is not safe in this version"
    assert sqlite.describe(of(), SOUND) == "3.51.3, journal mode WAL"
    assert sqlite.describe(POSTGRES, AFFECTED) is None
