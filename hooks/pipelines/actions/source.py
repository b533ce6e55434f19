"""Source / Entrepot / Package: the package version the execution is about. It was pinned when the execution started."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from hooks.pipelines.actions.kind import ActionKind, Progress, Starting
from hooks.pipelines.provider import Provider, Setting
from hooks.pipelines.state import ActionStatus
from registry.errors import Invalid
from registry.names import domain_name

LONGEST_SETTLE_SECONDS = 3600

_FORMAT = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")
_SECONDS = re.compile(r"[0-9]{1,4}\Z")


def _check_domain(value: str) -> str | None:
    try:
        domain_name(value)
    except Invalid as error:
        return error.rule
    return None


def _check_format(value: str) -> str | None:
    return None if _FORMAT.match(value) else f"{value!r} is not the name of a package format"


def _check_pattern(value: str) -> str | None:
    if not value:
        return "an empty pattern matches nothing"
    if any(char.isspace() or not char.isprintable() for char in value):
        return "a pattern holds no blanks and no control characters"
    if any(char in value for char in "[]{}()|\\^$"):
        return f"{value!r}: a pattern knows '*' and '?', and is no regular expression"
    return None


def _check_repository(value: str) -> str | None:
    if "/" in value:
        return f"{value!r} is no repository's name, which has no '/'; the domain stands in Domain"
    return _check_pattern(value)


def _check_seconds(value: str) -> str | None:
    if _SECONDS.match(value) and int(value) <= LONGEST_SETTLE_SECONDS:
        return None
    return f"{value!r} is not a whole number of seconds from 0 to {LONGEST_SETTLE_SECONDS}"


def _start(_session: Session, starting: Starting) -> Progress:
    source = starting.source
    files = len(source.assets)
    return Progress(
        ActionStatus.SUCCEEDED,
        f"{source.full_name} {source.version} from {source.domain}/{source.repository}, "
        f"{files} {'file' if files == 1 else 'files'}",
        variables={
            "Domain": source.domain,
            "Repository": source.repository,
            "Format": source.format,
            "Name": source.full_name,
            "Version": source.version,
            "Digest": f"sha256:{source.digest}",
            "Purl": source.purl,
        },
    )


PACKAGE = ActionKind(
    Provider(
        "Source",
        "Entrepot",
        "Package",
        (
            Setting("Domain", check=_check_domain),
            Setting("Repository", is_required=True, check=_check_repository),
            Setting("Format", is_required=True, check=_check_format),
            Setting("Name", is_required=True, check=_check_pattern),
            Setting("Version", check=_check_pattern),
            Setting("SettleSeconds", check=_check_seconds),
        ),
        inputs=(0, 0),
        outputs=(0, 1),
        variables=frozenset({"Domain", "Repository", "Format", "Name", "Version", "Digest", "Purl"}),
    ),
    _start,
)
