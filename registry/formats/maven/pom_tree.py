"""The elements of a POM, and which of its profiles are on by themselves. Pure."""

from __future__ import annotations

import html.entities
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from registry.formats.maven.version_ranges import is_range, parse_range

MOST_BYTES = 8 << 20
# Maven's parser knows the names of HTML, which some old POMs have in their developers' names.
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,30});")
_OWN_ENTITIES = frozenset({b"amp", b"lt", b"gt", b"quot", b"apos"})


class BadPom(ValueError):
    """A POM that is none; ``str()`` says why. Maven goes on without what such a one of a dependency says."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What profiles may ask for: Java's version ("17.0.1"; "" where it is not known), and the operating system."""

    java: str = ""
    os_name: str = "linux"
    os_family: str = "unix"
    os_arch: str = "amd64"


def tree(body: bytes, called: str) -> Element:
    """The root of a POM. Raises BadPom."""
    if len(body) > MOST_BYTES:
        raise BadPom(f"{called}: its POM is larger than {MOST_BYTES} bytes")
    try:
        root: Element = defusedxml.ElementTree.fromstring(_ENTITY.sub(_entity, body), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise BadPom(f"{called}: its POM is not XML: {' '.join(str(error).split())[:150]}") from error
    return root


def _entity(found: re.Match[bytes]) -> bytes:
    name = found[1]
    number = None if name in _OWN_ENTITIES else html.entities.name2codepoint.get(name.decode())
    return found[0] if number is None else b"&#%d;" % number


def name_of(element: Element) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def child(element: Element | None, name: str) -> Element | None:
    """The first element of that name in another; None where there is none."""
    return next((each for each in element if name_of(each) == name), None) if element is not None else None


def text_of(element: Element) -> str:
    """An element's own text."""
    return (element.text or "").strip()


def said(element: Element | None, name: str) -> str:
    """The text of the first element of that name; "" where there is none."""
    found = child(element, name)
    return "" if found is None else text_of(found)


def active_profiles(root: Element, machine: Machine) -> list[Element]:
    """The profiles of a POM that Maven turns on by itself on such a machine."""
    asked = [(each, child(each, "activation")) for each in child(root, "profiles") or ()]
    active = [each for each, activation in asked if activation is not None and _is_active(activation, machine)]
    return active or [each for each, activation in asked if said(activation, "activeByDefault") == "true"]


def _is_active(activation: Element, machine: Machine) -> bool:
    """By what Maven knows of a machine. No property is set, and there is no folder of a project for ``file``."""
    answers = []
    if wanted := said(activation, "jdk"):
        answers.append(_is_java(wanted, machine.java))
    if (system := child(activation, "os")) is not None:
        known = {"name": machine.os_name, "family": machine.os_family, "arch": machine.os_arch}
        for what, own in known.items():
            if wanted := said(system, what).lower():
                answers.append((wanted.lstrip("!") == own) is not wanted.startswith("!"))
        answers.append(not said(system, "version"))
    if (asked := child(activation, "property")) is not None:
        answers.append(said(asked, "name").startswith("!") or said(asked, "value").startswith("!"))
    if child(activation, "file") is not None:
        answers.append(False)
    return bool(answers) and all(answers)


def _is_java(wanted: str, own: str) -> bool:
    if not own:
        return False
    if is_range(wanted):
        # "[9" is "[9,)" here, as Maven reads it.
        text = wanted if wanted[-1] in {"]", ")"} else f"{wanted.rstrip(',')},)"
        try:
            return own in parse_range(text)
        except ValueError:
            return False
    return own.startswith(wanted.lstrip("!")) is not wanted.startswith("!")
