"""What a buildspec may ask for and this server does not carry out: never dropped silently. Pure."""

from __future__ import annotations

from hooks.builds.spec import PHASES, BuildSpec

BATCH_ALONE = "batch has no effect: this is a single build, and the section is a batch build's (StartBuildBatch)"


def user_warnings(spec: BuildSpec, user: str) -> tuple[str, ...]:
    """What ``run-as`` asks for in a sandbox that has one user only, called ``user``."""
    wanted = dict.fromkeys(spec.user_of(name) for name in PHASES)
    return tuple(
        f"run-as: {name} has no effect: this sandbox has one user, {user}, without privileges, and all commands are theirs"
        for name in wanted
        if name not in {"", user}
    )
