"""Index pages of a little package index, as PEP 503 and PEP 691 describe them."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

JSON_INDEX = "application/vnd.pypi.simple.v1+json"
HTML_INDEX = "text/html; charset=utf-8"


@dataclass
class Project:
    """A project of the index: file names with their promised digests, and what is said about each file."""

    name: str
    files: Mapping[str, bytes]
    json: bool
    yanked: Mapping[str, str]
    requires_python: Mapping[str, str]
    metadata: Mapping[str, bytes]
    wrong_digests: frozenset[str] = field(default_factory=frozenset)
    status: tuple[str, str] | None = None
    provenance: Mapping[str, bytes] = field(default_factory=dict)

    def digest(self, filename: str) -> str:
        if filename in self.wrong_digests:
            return hashlib.sha256(b"something else").hexdigest()
        return hashlib.sha256(self.files[filename]).hexdigest()


def index_json(names: list[str]) -> dict[str, object]:
    return {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in sorted(names)]}


def index_html(names: list[str]) -> bytes:
    links = "".join(f'<a href="/simple/{name}/">{name}</a>\n' for name in sorted(names))
    return f"<!DOCTYPE html><html><body>\n{links}</body></html>".encode()


def project_json(project: Project) -> dict[str, object]:
    files: list[dict[str, object]] = []
    for filename, content in project.files.items():
        entry: dict[str, object] = {
            "filename": filename,
            "url": f"/files/{project.name}/{quote(filename)}",
            "hashes": {"sha256": project.digest(filename)},
            "size": len(content),
            "upload-time": "2024-02-29T12:00:00.000000Z",
            "yanked": project.yanked.get(filename, False),
        }
        if filename in project.requires_python:
            entry["requires-python"] = project.requires_python[filename]
        if filename in project.metadata:
            entry["core-metadata"] = {"sha256": hashlib.sha256(project.metadata[filename]).hexdigest()}
        if filename in project.provenance:
            entry["provenance"] = f"/integrity/{project.name}/{quote(filename)}/provenance"
        files.append(entry)
    page: dict[str, object] = {"meta": {"api-version": "1.4"}, "name": project.name, "files": files}
    if project.status is not None:
        page["project-status"] = dict(zip(("status", "reason"), project.status, strict=True))
    return page


def project_html(project: Project) -> bytes:
    links = []
    for filename in project.files:
        attributes = [f'href="/files/{project.name}/{quote(filename)}#sha256={project.digest(filename)}"']
        if filename in project.requires_python:
            attributes.append(f'data-requires-python="{html.escape(project.requires_python[filename])}"')
        if filename in project.yanked:
            attributes.append(f'data-yanked="{html.escape(project.yanked[filename])}"')
        if filename in project.metadata:
            digest = hashlib.sha256(project.metadata[filename]).hexdigest()
            attributes.append(f'data-dist-info-metadata="sha256={digest}" data-core-metadata="sha256={digest}"')
        links.append(f"<a {' '.join(attributes)}>{html.escape(filename)}</a><br>\n")
    head = '<meta name="pypi:repository-version" content="1.1">'
    return f"<!DOCTYPE html><html><head>{head}</head><body>\n{''.join(links)}</body></html>".encode()
