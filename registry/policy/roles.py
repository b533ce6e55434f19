"""Built-in roles: what most people need, as statements of the same evaluator, so that nobody must write JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from registry.errors import Invalid
from registry.policy.actions import CATALOGUE
from registry.policy.document import Statement, Terms
from registry.policy.evaluate import Rule


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its name, what it is for, and the actions (lower-case patterns) it allows."""

    name: str
    meaning: str
    actions: tuple[str, ...]


_READER = tuple(name.lower() for name, word in CATALOGUE.items() if word == "read")
_PUBLISHER = tuple(name.lower() for name, word in CATALOGUE.items() if word == "publish")
_RELEASES = (
    "codeartifact:copypackageversions",
    "codeartifact:putpackagemetadata",
    "codeartifact:updatepackageversionsstatus",
    "codeartifact:disposepackageversions",
    "entrepot:approveaction",
    "entrepot:createdeployment",
    "entrepot:startpipelineexecution",
    "entrepot:stoppipelineexecution",
)

ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.name: role
        for role in (
            Role("reader", "read and install packages", _READER),
            Role("publisher", "read, publish and withdraw packages", _READER + _PUBLISHER),
            Role(
                "release-manager",
                "read, copy versions to other repositories, move their tags, change their status, answer approvals, deploy",
                _READER + _RELEASES,
            ),
            Role("admin", "everything there", ("*",)),
        )
    }
)


def role_of(name: str) -> Role:
    """The role of that name. Raises Invalid naming the known ones."""
    if name not in ROLES:
        raise Invalid(f"no role is called {name[:60]!r}; roles are {', '.join(ROLES)}")
    return ROLES[name]


def resources_of(domain: str, repository: str) -> tuple[str, ...]:
    """What a role covers that is granted there (both may be empty; ``repository`` may be a pattern)."""
    if not domain:
        return ("*",)
    if not repository:
        return tuple(f"{kind}/{domain}{rest}" for kind in ("domain", "repository", "package", "package-group")
                     for rest in ("", "/*"))  # fmt: skip
    return (f"repository/{domain}/{repository}", f"package/{domain}/{repository}/*")


def rule_of(role: str, principal: str, shown: str, domain: str, repository: str) -> Rule:
    """The rule that a granted role is. ``principal`` as the evaluator compares it, ``shown`` as people know it."""
    where = f"{domain}/{repository}" if repository else domain or "the server"
    statement = Statement(
        sid="",
        allows=True,
        principals=Terms((principal,)),
        actions=Terms(role_of(role).actions),
        resources=Terms(resources_of(domain, repository)),
    )
    return Rule(statement, f"role {role} of {shown} on {where}")
