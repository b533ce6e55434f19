"""What a credential may be given by somebody: never more than they have themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from registry.access import ANY_PACKAGE, Action, Identity, network
from registry.errors import Denied, Invalid
from registry.format import Format

MOST_PATTERNS = 100
_STANDIN = "z9z"  # a name in every format, which no canonical spelling changes
_PATTERN = re.compile(r"[a-z0-9*-]{1,50}/[A-Za-z0-9._*-]{1,100}\Z")


def checked_patterns(patterns: Sequence[str] | None) -> list[str] | None:
    """Repository patterns (``domain/repository``, ``*`` within a part), or None for all. Raises Invalid."""
    if patterns is None:
        return None
    for pattern in patterns:
        if not _PATTERN.match(pattern):
            raise Invalid(f"repository pattern {pattern!r}: write domain/repository, with '*' for any part of a name")
    if not patterns:
        raise Invalid("repositories names none; leave it out (or null) for all of them")
    return list(patterns)


def within(identity: Identity, actions: Sequence[Action], repositories: Sequence[str] | None) -> list[str] | None:
    """The repositories a credential gets that ``identity`` makes with these rights: those asked for, or their own.

    Asking for all (None) gives what the maker is limited to. Raises Denied when an action or a repository goes beyond
    any of the maker's scopes.
    """
    granted = checked_patterns(repositories)
    own, *narrowing = identity.scopes
    # What roles and policies give goes beyond the account's own scope, which then is no limit to hand on: what the
    # account may is asked again whenever the token is used.
    limits = [*reversed(narrowing), *([] if identity.has_more(actions) else [own])]
    for scope in limits:
        if granted is None and scope.repositories is not None:
            granted = list(scope.repositories)
    # A ``*`` in an asked pattern is read as a plain character, which only a ``*`` of the scope matches: so whatever the
    # asked one stands for, the scope's stands for as well.
    for action in actions:
        for pattern in granted or (None,):
            covered = all(scope.allows(action, pattern, ANY_PACKAGE) for scope in narrowing)
            if not (covered and identity.could(action, pattern)):
                where = f" on {pattern}" if pattern else ""
                raise Denied(f"{identity.name} may not {action.value}{where}, and cannot give a token that right")
    return granted


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a credential counts, in the shape of ``registry.access.Scope``; None for everywhere."""

    repositories: list[str] | None = None
    packages: list[str] | None = None
    networks: list[str] | None = None


EVERYWHERE = Limits()


def checked_packages(patterns: Sequence[str] | None, formats: Mapping[str, Format]) -> list[str] | None:
    """Package patterns (``format/namespace/name``) in canonical spelling, or None for all. Raises Invalid."""
    if patterns is None:
        return None
    if not patterns:
        raise Invalid("packages names none; leave it out (or null) for all of them")
    if len(patterns) > MOST_PATTERNS:
        raise Invalid(f"at most {MOST_PATTERNS} package patterns; use '*' for groups of them")
    return [_checked_package(pattern, formats) for pattern in patterns]


def _checked_package(pattern: str, formats: Mapping[str, Format]) -> str:
    format_name, slash, path = pattern.partition("/")
    if not slash or not path or "**" in pattern or len(pattern) > 400 or format_name not in {*formats, "*"}:
        known = ", ".join(sorted(formats))
        raise Invalid(
            f"package pattern {pattern[:100]!r}: write format/name or format/namespace/name, with '*' for any part of "
            f"a name; formats are {known}"
        )
    if path == "*" or format_name == "*":
        return pattern
    if _STANDIN in path:
        raise Invalid(f"package pattern {pattern[:100]!r}: no package may be called {_STANDIN!r} in it")
    # A pattern is compared with canonical names, so that it has to be spelt like one: ``Foo_*`` means ``foo-*``.
    key = formats[format_name].key(path.replace("*", _STANDIN))
    return f"{format_name}/{key.path.replace(_STANDIN, '*')}"


def checked_networks(networks: Sequence[str] | None) -> list[str] | None:
    """CIDR blocks in canonical form, or None for everywhere. Raises Invalid."""
    if networks is None:
        return None
    if not networks:
        raise Invalid("networks names none; leave it out (or null) for all of them")
    if len(networks) > MOST_PATTERNS:
        raise Invalid(f"at most {MOST_PATTERNS} networks")
    return [str(network(text)) for text in networks]


def narrowed(identity: Identity, actions: Sequence[Action], asked: Limits) -> Limits:
    """The limits a credential gets that ``identity`` makes with these rights: those asked for, or their own.

    ``asked`` is checked already. Raises Denied where it goes beyond any of the maker's scopes.
    """
    repositories = within(identity, actions, asked.repositories)
    packages, networks = asked.packages, asked.networks
    for scope in reversed(identity.scopes):
        packages = list(scope.packages) if packages is None and scope.packages is not None else packages
        networks = list(scope.networks) if networks is None and scope.networks is not None else networks
    for scope in identity.scopes:
        for pattern in packages or ():
            # As with repositories a ``*`` that is asked for is read as a plain character; patterns have no ``**``.
            if not scope.covers_package(pattern):
                raise Denied(f"{identity.name} cannot give a token the right to {pattern}")
        for text in networks or ():
            if scope.networks is not None and not any(_is_inside(text, wide) for wide in scope.networks):
                raise Denied(
                    f"{identity.name} cannot make a token for {text}: the one it is made with is not for there"
                )
    return Limits(repositories, packages, networks)


def _is_inside(text: str, wide: str) -> bool:
    inner, outer = network(text), network(wide)
    return inner.version == outer.version and inner.network_address in outer and inner.broadcast_address in outer


def in_domain(limits: Limits, domain: str) -> Limits:
    """``limits`` without what lies outside of a domain. Raises Denied when nothing is left."""
    if limits.repositories is None:
        return Limits([f"{domain}/*"], limits.packages, limits.networks)
    left = []
    for pattern in limits.repositories:
        where, _, name = pattern.partition("/")
        if re.fullmatch(".*".join(re.escape(part) for part in where.split("*")), domain):
            left.append(f"{domain}/{name}")
    if not left:
        raise Denied(f"nothing in the domain {domain} is open to you")
    return Limits(left, limits.packages, limits.networks)
