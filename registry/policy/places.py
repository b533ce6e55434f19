"""What is acted on, spelt as resources: CodeArtifact's ARNs without the part that names a partition and an account.

``server`` · ``domain/DOMAIN`` · ``repository/DOMAIN/REPOSITORY`` · ``package/DOMAIN/REPOSITORY/FORMAT/NAMESPACE/NAME``
(an empty namespace leaves two slashes) · ``package-group/DOMAIN/PATTERN``.
"""

from __future__ import annotations

from typing import NamedTuple

from registry.errors import Invalid
from registry.names import PackageKey, PackageName

KINDS = ("server", "domain", "repository", "package", "package-group")


class Place(NamedTuple):
    """Where something is done. ``domain`` empty: the server; ``repository`` empty: the domain.

    ``is_open`` says that a package is concerned whose name is not known yet (an upload names it in its body),
    ``is_list`` that names of packages are listed here, each of which is asked for alone before it is told.
    ``thing`` is the resource of something that lies in no domain, and has a policy of its own.
    """

    domain: str = ""
    repository: str = ""
    package: PackageKey | None = None
    is_open: bool = False
    is_list: bool = False
    thing: str = ""

    @property
    def resources(self) -> tuple[str, ...]:
        """The thing itself, and what stands for it as well: a repository for its packages."""
        if self.thing:
            return (self.thing,)
        if not self.domain:
            return ("server",)
        if not self.repository:
            return (f"domain/{self.domain}",)
        whole = f"repository/{self.domain}/{self.repository}"
        if self.package is None:
            return (whole,)
        format_name, namespace, name = self.package
        return (f"package/{self.domain}/{self.repository}/{format_name}/{namespace}/{name}", whole)

    @property
    def open_prefix(self) -> str:
        """How the resource will begin that is not known yet; empty where all is known."""
        return f"package/{self.domain}/{self.repository}/" if self.is_open else ""


def short(resource: str) -> str:
    """A resource without ``arn:partition:service:region:account:`` before it."""
    if resource.startswith("arn:"):
        parts = resource.split(":", 5)
        return parts[5] if len(parts) == 6 else resource
    return resource


def parse(text: str) -> Place:
    """A place as people write it: a resource, or short ``DOMAIN``, ``DOMAIN/REPOSITORY`` and ``server``. Raises Invalid."""
    word = short(text)
    kind, _, rest = word.partition("/")
    if word in {"server", "*"}:
        return Place()
    if kind == "domain" and rest and "/" not in rest:
        return Place(rest)
    if kind == "repository" and rest.count("/") == 1:
        domain, repository = rest.split("/")
        return Place(domain, repository)
    if kind == "package" and rest.count("/") >= 4:
        domain, repository, format_name, namespace, name = rest.split("/", 4)
        return Place(domain, repository, PackageKey(format_name, namespace, PackageName(name)))
    if kind not in KINDS and word and word.count("/") <= 1 and not word.startswith("/") and not word.endswith("/"):
        domain, _, repository = word.partition("/")
        return Place(domain, repository)
    raise Invalid(
        f"{text[:200]!r} is no place: write server, DOMAIN, DOMAIN/REPOSITORY, "
        "or package/DOMAIN/REPOSITORY/FORMAT/NAMESPACE/NAME"
    )
