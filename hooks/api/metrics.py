"""``/metrics``: builds in the text format of Prometheus (version 0.0.4), for whoever has a credential.

Each caller sees the projects that they may see and no sum that has others in it. The figures come from rows, so that
every process of every machine answers the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flask import Blueprint, Response

from hooks.builds.metrics import Totals, totals
from hooks.builds.phases import BuildStatus
from hooks.builds.project_rights import may_see
from hooks.builds.projects import list_projects
from hooks.services import HookServices
from registry.http import context
from registry.http.auth import signed_in_api

MOST_PROJECTS = 500
"""So many projects have series of their own, by name; the answer says how many there are."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENDS = tuple(status.value for status in BuildStatus if status is not BuildStatus.IN_PROGRESS)
_NONE = Totals({}, 0, 0, 0, 0.0, 0, 0.0)


def blueprint(services: HookServices) -> Blueprint:
    """The route."""
    routes = Blueprint("metrics", __name__)

    @signed_in_api
    def metrics() -> Response:
        caller = context.caller()
        with services.db.read() as session:
            visible = sorted(
                (project.name, project.id) for project in list_projects(session) if may_see(caller, project)
            )
            shown = visible[:MOST_PROJECTS]
            found = totals(session, [project_id for _, project_id in shown])
        each = [(name, found.get(project_id, _NONE)) for name, project_id in shown]
        response = Response(render(each, len(visible)), content_type=CONTENT_TYPE)
        response.headers["Cache-Control"] = "no-store"
        return response

    routes.add_url_rule("/metrics", "metrics", metrics)
    return routes


def render(projects: Iterable[tuple[str, Totals]], known: int) -> str:
    """The document. ``known`` is how many projects the caller may see. Pure."""
    listed = list(projects)
    lines = [*_head("entrepot_build_projects", "gauge", "Build projects that the caller may see.")]
    lines.append(f"entrepot_build_projects {known}")
    lines += _head("entrepot_builds_total", "counter", "Builds that ended, by how.")
    for name, total in listed:
        for status in _ENDS:
            lines.append(
                f'entrepot_builds_total{{project="{_label(name)}",status="{status}"}} {total.ended.get(status, 0)}'
            )
    for state in ("running", "waiting"):
        lines += _head(f"entrepot_builds_{state}", "gauge", f"Builds that are {state}.")
        lines += [
            f'entrepot_builds_{state}{{project="{_label(name)}"}} {getattr(total, state)}' for name, total in listed
        ]
    what = "Seconds from the submission of a build to its start."
    lines += _summary("entrepot_build_queue_seconds", what, ((n, t.queue_seconds, t.begun) for n, t in listed))
    what = "Seconds from the start of a build to its end."
    lines += _summary("entrepot_build_duration_seconds", what, ((n, t.duration_seconds, t.finished) for n, t in listed))
    return "\n".join(lines) + "\n"


def _head(name: str, kind: str, what: str) -> Iterator[str]:
    yield f"# HELP {name} {what}"
    yield f"# TYPE {name} {kind}"


def _summary(name: str, what: str, values: Iterable[tuple[str, float, int]]) -> Iterator[str]:
    yield from _head(name, "summary", what)
    for project, seconds, count in values:
        yield f'{name}_sum{{project="{_label(project)}"}} {seconds:.3f}'
        yield f'{name}_count{{project="{_label(project)}"}} {count}'


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
