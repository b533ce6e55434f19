"""How parameters and secrets are called, here and in AWS's documents. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from registry.errors import Invalid

LONGEST_NAME = 512
MOST_LEVELS = 15
_PART = re.compile(r"[A-Za-z0-9_.+=@-]+\Z")
_ARN_SUFFIX = re.compile(r"-[A-Za-z0-9]{6}\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


class Kind(StrEnum):
    """A parameter (SSM Parameter Store's) or a secret (Secrets Manager's)."""

    PARAMETER = "parameter"
    SECRET = "secret"  # noqa: S105  (a word)


def canonical(kind: Kind, text: str) -> str:
    """The one spelling of a name. A slash before it makes no difference; a parameter in a hierarchy is kept with it.

    Raises Invalid.
    """
    parts = text.removeprefix("/").split("/")
    if len(text) > LONGEST_NAME or len(parts) > MOST_LEVELS or not all(map(_is_part, parts)):
        raise Invalid(
            f"{kind} name {text[:100]!r}: letters, digits and '_.+=@-', in up to {MOST_LEVELS} levels with '/' between"
        )
    return "/" * (kind is Kind.PARAMETER and len(parts) > 1) + "/".join(parts)


def _is_part(part: str) -> bool:
    return _PART.match(part) is not None and part.strip(".") != ""


def parameter_and_version(text: str) -> tuple[str, int | None]:
    """What ``env.parameter-store`` names: a name or ARN, with ``:VERSION`` behind it if wanted. Raises Invalid."""
    if text.startswith("arn:"):
        fields = text.split(":", 5)
        text = fields[5].removeprefix("parameter") if len(fields) == 6 else text
    name, colon, version = text.partition(":")
    if colon and not _NUMBER.match(version):
        raise Invalid(f"parameter {text[:100]!r}: behind the colon stands the number of a version")
    return canonical(Kind.PARAMETER, name), int(version) if colon else None


def secret_names(secret_id: str) -> tuple[str, ...]:
    """The names that a secret's id may mean, the likeliest first: an ARN has six characters of AWS's behind the name.

    Raises Invalid.
    """
    if not secret_id.startswith("arn:"):
        return (canonical(Kind.SECRET, secret_id),)
    fields = secret_id.split(":", 6)
    if len(fields) < 7:
        raise Invalid(f"{secret_id[:100]!r} is not the ARN of a secret")
    name = canonical(Kind.SECRET, fields[6])
    shorter = _ARN_SUFFIX.sub("", name)
    return (name, shorter) if shorter and shorter != name else (name,)
