"""Who may do what to a build project: it belongs to a repository, and with it to a domain.

Seeing it takes ``read`` there, starting its builds ``read`` and ``publish`` (a build reads there, and what it leaves is as
good as published) and ``publish`` where it publishes, changing it ``admin`` on the domain. One that belongs to no
repository builds the versions it is given:
everybody signed in sees its name, and it is the server's administrators'.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from hooks.builds.projects import get_project
from hooks.builds.publishing import publish_place
from hooks.builds.source import PackageSource
from hooks.builds.starting import place_of
from hooks.models.build import Build, BuildProject
from registry.access import Action, Identity, check
from registry.errors import NotFound
from registry.names import PackageKey, PackageName

MANAGE, READ, START = "entrepot:ManageBuildProjects", "entrepot:ReadBuild", "entrepot:StartBuild"


def visible_project(session: Session, name: str, caller: Identity) -> BuildProject:
    """The project. Raises NotFound also when it is not for these eyes."""
    project = get_project(session, name)
    if not may_see(caller, project):
        raise NotFound("build project", name)
    return project


def may_see(caller: Identity, project: BuildProject) -> bool:
    """Whether a caller gets to know of a project: readers of its repository; of one that belongs to none, everybody."""
    place = place_of(project)
    return place is None or caller.may(Action.READ, "/".join(place), permission=READ)


def check_manage(caller: Identity, place: tuple[str, str] | None) -> None:
    """Raise Denied for who may not change projects there: administrators of the domain may, else of the server."""
    check(caller, Action.ADMIN, permission=MANAGE, domain=place[0] if place else "")


def may_manage(caller: Identity, project: BuildProject) -> bool:
    """Whether a caller may change a project, and see its hooks."""
    place = place_of(project)
    return caller.may(Action.ADMIN, permission=MANAGE, domain=place[0] if place else "")


def check_start(caller: Identity, project: BuildProject) -> None:
    """Raise Denied for who may not start the project's own builds."""
    place = place_of(project)
    if place is None:
        check(caller, Action.ADMIN, permission=MANAGE)
    else:
        check_start_at(caller, place)
    check_publishes(caller, project)


def check_publishes(caller: Identity, project: BuildProject) -> None:
    """Raise Denied for who may not publish where the project's builds do: who starts one decides what it publishes."""
    target = publish_place(project.document)
    if target is not None:
        check(caller, Action.PUBLISH, "/".join(target), permission=START)


def check_start_at(caller: Identity, place: tuple[str, str]) -> None:
    """Raise Denied for who may not start builds that read in a repository."""
    check(caller, Action.READ, "/".join(place), permission=READ)
    check(caller, Action.PUBLISH, "/".join(place), permission=START)


def may_start(caller: Identity, project: BuildProject) -> bool:
    """Whether a caller may start the project's own builds."""
    place = place_of(project)
    if place is None:
        return caller.may(Action.ADMIN, permission=MANAGE)
    path = "/".join(place)
    reads = caller.may(Action.READ, path, permission=READ)
    return reads and caller.may(Action.PUBLISH, path, permission=START) and may_publish(caller, project)


def may_publish(caller: Identity, project: BuildProject) -> bool:
    """Whether a caller may publish where the project's builds do; also where these publish nowhere."""
    target = publish_place(project.document)
    return target is None or caller.may(Action.PUBLISH, "/".join(target), permission=START)


def may_see_build(who: Identity, source: PackageSource) -> bool:
    """Whether somebody may see a build: who may look into the version it builds, or read the repository it belongs to."""
    place = f"{source.domain}/{source.repository}"
    if not source.is_package:
        return who.may(Action.READ, place)
    return who.may_look_into(place, PackageKey(source.format, source.namespace, PackageName(source.name)))


def may_open_build(session: Session, who: Identity, build_id: str) -> bool:
    """Whether a build is still there, and somebody may see it."""
    build = session.get(Build, build_id)
    return build is not None and may_see_build(who, PackageSource.from_json(build.source))
