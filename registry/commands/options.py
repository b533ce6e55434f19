"""Kinds of values on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import click

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")
_SIZE = re.compile(r"([0-9]{1,15})(KiB|MiB|GiB|TiB)?\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Place(NamedTuple):
    """A repository by its names."""

    domain: str
    repository: str

    @property
    def path(self) -> tuple[str, str, str, str]:
        """Its path in the management interface, in parts."""
        return ("domains", self.domain, "repositories", self.repository)


class RepositoryType(click.ParamType[Place]):
    """``NAME``, in the domain ``default``, or ``DOMAIN/NAME``."""

    name = "repository"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Split the names."""
        if isinstance(value, Place):
            return value
        domain, slash, repository = value.rpartition("/")
        if not repository or (slash and not domain) or "/" in domain:
            self.fail(f"{value!r}: write NAME or DOMAIN/NAME", param, ctx)
        return Place(domain or "default", repository)


class DurationType(click.ParamType[timedelta]):
    """A whole number with s, m, h or d behind it."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read the number and its unit."""
        if isinstance(value, timedelta):
            return value
        match = _DURATION.match(value)
        if match is None:
            self.fail(f"{value!r}: write a number and s, m, h or d, like 12h", param, ctx)
        return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


class SizeType(click.ParamType[int]):
    """A whole number of bytes, with KiB, MiB, GiB or TiB behind it if wanted."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number and its unit."""
        if isinstance(value, int):
            return value
        match = _SIZE.match(value)
        if match is None:
            self.fail(f"{value!r}: write a number of bytes, or one with KiB, MiB, GiB or TiB, like 50GiB", param, ctx)
        return int(match[1]) << (10 * ("", "KiB", "MiB", "GiB", "TiB").index(match[2] or ""))


REPOSITORY = RepositoryType()
SIZE = SizeType()
DURATION = DurationType()


def example(text: str) -> Callable[..., Any]:
    """Give a command an example, shown as it stands at the end of its ``--help``."""

    def decorate(command: click.Command) -> click.Command:
        # \b keeps click from refilling the paragraph.
        command.epilog = "\b\nExample:\n" + "\n".join(f"  {line}" for line in text.strip().splitlines())
        return command

    return decorate
