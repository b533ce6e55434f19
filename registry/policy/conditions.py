"""Conditions of statements: IAM's operators over the facts that a request has here.

A fact that is not there: plain operators do not match, negated ones and those with ``IfExists`` do (IAM's rule).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from registry.errors import Invalid
from registry.policy.wildcards import matches

TEXT, ADDRESS, MOMENT, FLAG = "text", "address", "moment", "flag"

KEYS: Mapping[str, tuple[str, str]] = {
    "aws:sourceip": ("aws:SourceIp", ADDRESS),
    "aws:currenttime": ("aws:CurrentTime", MOMENT),
    "aws:username": ("aws:username", TEXT),
    "entrepot:via": ("entrepot:Via", TEXT),
    "entrepot:serviceaccount": ("entrepot:ServiceAccount", FLAG),
}
"""Lower-case key → its spelling and what kind of value it has. Keys are compared without regard to case."""

Facts = Mapping[str, Any]
"""Lower-case key → text, address (text), moment (aware) or flag."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _like(pattern: str, fact: str) -> bool:
    return matches(pattern, fact)


@lru_cache(maxsize=4096)
def _is_inside(network: Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.version == network.version and address in network


_TESTS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "StringEquals": (TEXT, lambda wanted, fact: wanted == fact),
    "StringEqualsIgnoreCase": (TEXT, lambda wanted, fact: wanted.casefold() == fact.casefold()),
    "StringLike": (TEXT, _like),
    "DateEquals": (MOMENT, lambda wanted, fact: fact == wanted),
    "DateLessThan": (MOMENT, lambda wanted, fact: fact < wanted),
    "DateLessThanEquals": (MOMENT, lambda wanted, fact: fact <= wanted),
    "DateGreaterThan": (MOMENT, lambda wanted, fact: fact > wanted),
    "DateGreaterThanEquals": (MOMENT, lambda wanted, fact: fact >= wanted),
    "Bool": (FLAG, lambda wanted, fact: wanted is fact),
    "IpAddress": (ADDRESS, _is_inside),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}
OPERATORS = (*_TESTS, *_NEGATED, "Null")


@dataclass(frozen=True, slots=True)
class Condition:
    """One key under one operator: holds when any of ``values`` does (negated: when none does)."""

    operator: str
    key: str
    values: tuple[Any, ...]
    is_negated: bool = False
    if_exists: bool = False

    def holds(self, facts: Facts) -> bool:
        """Whether the request's facts fit."""
        fact = facts.get(self.key)
        if fact is not None and KEYS[self.key][1] == ADDRESS:
            fact = _address(fact)
        if self.operator == "Null":
            return any(wanted == (fact is None) for wanted in self.values)
        if fact is None:
            return self.is_negated or self.if_exists
        test = _TESTS[self.operator][1]
        return any(test(wanted, fact) for wanted in self.values) != self.is_negated


def parse(operator: str, key: str, values: list[Any]) -> Condition:
    """A condition as a document has it. Raises Invalid saying what is wrong with it."""
    if_exists = operator.endswith("IfExists")
    word = operator.removesuffix("IfExists")
    is_negated = word in _NEGATED
    test = _NEGATED.get(word, word)
    if test not in _TESTS and (test != "Null" or if_exists):
        raise Invalid(f"operator {operator[:60]!r} is not known; known are {', '.join(OPERATORS)}, and …IfExists")
    if key.lower() not in KEYS:
        raise Invalid(f"key {key[:60]!r} is not known; known are {', '.join(name for name, _ in KEYS.values())}")
    name, kind = KEYS[key.lower()]
    if test == "Null":
        kind = FLAG
    elif _TESTS[test][0] != kind:
        raise Invalid(f"{operator} cannot be asked of {name}, which is a {kind}")
    if not values:
        raise Invalid(f"{operator} of {name} names no value")
    return Condition(test, key.lower(), tuple(_value(kind, value) for value in values), is_negated, if_exists)


def _value(kind: str, value: Any) -> Any:
    if kind == FLAG:
        words = {"true": True, "false": False}
        found = value if isinstance(value, bool) else words.get(str(value).lower())
        if found is None:
            raise Invalid(f"{str(value)[:60]!r} is neither true nor false")
        return found
    if not isinstance(value, str):
        raise Invalid(f"{str(value)[:60]} must be a text")
    if kind == ADDRESS:
        return _network(value)
    return _moment(value) if kind == MOMENT else value


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Invalid(f"{text[:60]!r} is no address or network") from error


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Invalid(f"{text[:60]!r} is no moment (write 2026-01-31T12:00:00Z)") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None  # a peer without an address (a socket file): as if the key were not there
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
