"""The package groups of a domain: which there are, what they say, which packages belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from registry.access import Action, check
from registry.errors import Invalid, NotFound
from registry.http import context
from registry.http.auth import page
from registry.pages.appearance import redirect_with
from registry.pages.catalogue import readable
from registry.pages.proof import proved
from registry.repos import package_groups, shelf, topology
from registry.repos.browse import RepositorySummary
from registry.repos.group_patterns import ROOT, GroupTree, Mode, Restriction
from registry.repos.package_groups import OriginChange, PackageGroupDescription

PACKAGES_SHOWN = 100
WAYS = {
    Restriction.PUBLISH: ("Publishing", "versions that are published straight to a repository"),
    Restriction.INTERNAL_UPSTREAM: ("Internal upstreams", "versions that come from another repository of the domain"),
    Restriction.EXTERNAL_UPSTREAM: ("Outside", "versions that come through an external connection"),
}
MODES = {
    Mode.ALLOW: "allowed",
    Mode.ALLOW_SPECIFIC_REPOSITORIES: "only for the repositories below",
    Mode.BLOCK: "blocked",
    Mode.INHERIT: "as the parent says",
}


@dataclass(frozen=True, slots=True)
class Branch:
    """A group in the tree, ``depth`` steps below the root."""

    group: PackageGroupDescription
    depth: int


def routes(pages: Blueprint) -> None:
    """Add the routes."""
    base = "/package-groups/<domain>"
    pages.add_url_rule(base, "package_groups", _list)
    pages.add_url_rule(base, "create_package_group", _create, methods=["POST"])
    pages.add_url_rule(f"{base}/group", "package_group", _group)
    pages.add_url_rule(f"{base}/group", "set_package_group", _set, methods=["POST"])
    pages.add_url_rule(f"{base}/group/delete", "delete_package_group", _delete, methods=["POST"])


@page
def _list(domain: str) -> str:
    with context.services().db.read() as session:
        _repositories(session, domain)
        found = package_groups.find_domain(session, domain)
        tree = topology.load_groups(session, found.id)
    branches = [
        Branch(package_groups.describe(tree, found, group.pattern.text), _depth(tree, group.pattern.text))
        for group in tree.groups()
    ]
    return render_template("package_groups.html", domain=domain, branches=branches, ways=WAYS, may_change=_may_change())


@page
def _group(domain: str) -> str:
    pattern = request.args.get("pattern", "")
    with context.services().db.read() as session:
        repositories = _repositories(session, domain)
        found = package_groups.find_domain(session, domain)
        tree = topology.load_groups(session, found.id)
        described = package_groups.describe(tree, found, pattern)
        packages = package_groups.associated(
            session, tree, pattern, [each.id for each in repositories], limit=PACKAGES_SHOWN + 1
        )
    group = tree.group(pattern)
    assert group is not None
    return render_template(
        "package_group.html",
        domain=domain,
        group=described,
        subgroups=[child.pattern.text for child in tree.children(pattern)],
        packages=packages[:PACKAGES_SHOWN],
        has_more=len(packages) > PACKAGES_SHOWN,
        ways=WAYS,
        modes={mode: text for mode, text in MODES.items() if pattern != ROOT or mode is not Mode.INHERIT},
        repositories=repositories,
        listed={restriction: group.repositories.get(restriction, frozenset()) for restriction in Restriction},
        is_root=pattern == ROOT,
        may_change=_may_change(),
    )


@page
def _create(domain: str) -> ResponseReturnValue:
    pattern, description = request.form.get("pattern", "").strip(), request.form.get("description", "").strip()
    services, who = context.services(), context.caller()
    check(who, Action.ADMIN)
    if len(description) > 1000:
        raise Invalid("the description is longer than 1000 characters")

    def unit(session: Session) -> None:
        found = package_groups.find_domain(session, domain)
        package_groups.create(
            session,
            found,
            pattern,
            services.formats,
            description=description,
            actor=who.name,
            now=services.clock(),
        )

    shelf.settle(services.db, unit)
    return redirect_with("group-created", url_for("pages.package_group", domain=domain, pattern=pattern))


@page
@proved()
def _set(domain: str) -> ResponseReturnValue:
    pattern, services, who = request.form.get("pattern", ""), context.services(), context.caller()
    check(who, Action.ADMIN)
    modes = {str(each): request.form.get(str(each), "") for each in Restriction}
    wanted = {each: frozenset(request.form.getlist(f"{each}-repository")) for each in Restriction}

    def unit(session: Session) -> None:
        found = package_groups.find_domain(session, domain)
        names = {each.id: each.name for each in _repositories(session, domain)}
        change = _change(topology.load_groups(session, found.id), pattern, modes, wanted, names)
        package_groups.configure(session, found, pattern, change, actor=who.name, now=services.clock())

    shelf.settle(services.db, unit)
    return redirect_with("group-set", url_for("pages.package_group", domain=domain, pattern=pattern))


@page
@proved()
def _delete(domain: str) -> ResponseReturnValue:
    pattern, services, who = request.form.get("pattern", ""), context.services(), context.caller()
    check(who, Action.ADMIN)

    def unit(session: Session) -> None:
        found = package_groups.find_domain(session, domain)
        package_groups.remove(session, found, pattern, actor=who.name, now=services.clock())

    shelf.settle(services.db, unit)
    return redirect_with("group-deleted", url_for("pages.package_groups", domain=domain))


def _change(
    tree: GroupTree,
    pattern: str,
    modes: Mapping[str, str],
    wanted: Mapping[Restriction, frozenset[str]],
    names: Mapping[int, str],
) -> OriginChange:
    """What the form says, against what is; of repositories that the form did not show nothing changes."""
    group = tree.group(pattern)
    if group is None:
        raise NotFound("package group", pattern)
    held = {
        each: {names[known] for known in group.repositories.get(each, ()) if known in names} for each in Restriction
    }
    return OriginChange(
        modes,
        [(str(each), name) for each in Restriction for name in sorted(wanted[each] - held[each])],
        [(str(each), name) for each in Restriction for name in sorted(held[each] - wanted[each])],
    )


def _depth(tree: GroupTree, pattern: str) -> int:
    parent = tree.parent(pattern)
    return 0 if parent is None else 1 + _depth(tree, parent)


def _may_change() -> bool:
    who = context.identity()
    return who is not None and who.may(Action.ADMIN)


def _repositories(session: Session, domain: str) -> list[RepositorySummary]:
    """The repositories of a domain that who looks may read; without any, the domain's groups are not theirs to see."""
    who = context.caller()
    found = [each for each in readable(session) if each.domain == domain and who.may(Action.READ, each.path)]
    if not found:
        check(who, Action.ADMIN)
    return found
