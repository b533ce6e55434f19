"""What a buildspec may ask for and this server does not carry out: never dropped silently. Pure.

A build that would be wrong without it fails in DOWNLOAD_SOURCE.
"""

from __future__ import annotations

from collections.abc import Callable

from hooks.builds.spec import PHASES, BuildSpec

_Row = tuple[Callable[[BuildSpec], object], str]

_FAULTS: tuple[_Row, ...] = (
    (lambda spec: spec.batch, "batch builds are not carried out by this server; remove the batch section"),
)


def lacking_faults(spec: BuildSpec) -> tuple[str, ...]:
    """Why a build of ``spec`` would be wrong here."""
    return tuple(text for applies, text in _FAULTS if applies(spec))


def user_warnings(spec: BuildSpec, user: str) -> tuple[str, ...]:
    """What ``run-as`` asks for in a sandbox that has one user only, called ``user``."""
    wanted = dict.fromkeys(spec.user_of(name) for name in PHASES)
    return tuple(
        f"run-as: {name} has no effect: this sandbox has one user, {user}, without privileges, and all commands are theirs"
        for name in wanted
        if name not in {"", user}
    )
