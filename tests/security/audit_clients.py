"""What package clients send, as drivers of their routes."""

import io
from typing import Any
from urllib.parse import quote

from tests.functional.api_world import PASSWORD
from tests.harness import maven, npm_packages, packages, publishing
from tests.security.audit_stage import (
    GENERIC,
    MAVEN,
    NPM,
    NPM_PACKAGE,
    PYPI,
    TAGS,
    Ask,
    Stage,
    drive,
    drives,
    token_id,
    unfinished,
)


def _upload(stage: Stage, rest: str) -> Ask:
    name = stage.name("wheel")
    filename, body = packages.wheel(name, "1.0")
    data: dict[str, Any] = {**publishing.form(name, "1.0", body), "content": (io.BytesIO(body), filename)}
    return stage.client(f"/pypi/default/prod/{rest}", data=data, content_type="multipart/form-data")


for _rest in ("", "legacy/", "legacy", "simple/", "simple"):
    drive(f"POST {PYPI}/{_rest}", lambda s, rest=_rest: _upload(s, rest))


drive(
    f"PUT {GENERIC}/<name>/<version>/<path:path>",
    lambda s: s.client(f"/generic/default/prod/{s.name()}/1.0/a.bin", data=b"a"),
)
drive(
    f"POST {GENERIC}/<name>/<version>/",
    lambda s: s.client(f"/generic/default/prod/{unfinished(s)}/1.0/?status=published"),
)
drive(f"DELETE {GENERIC}/<name>/<version>/", lambda s: s.client(f"/generic/default/prod/{s.generic()}/1.0/"))


def _maven_path(name: str, suffix: str = "jar") -> str:
    return f"/maven/default/prod/com/acme/{name}/1.0/{name}-1.0.{suffix}"


drive(f"PUT {MAVEN}/<path:path>", lambda s: s.client(_maven_path(s.name("art")), data=maven.jar(**{"v.txt": "1.0"})))


@drives(f"DELETE {MAVEN}/<path:path>")
def _take_back(stage: Stage) -> Ask:
    name = stage.name("art")
    for suffix, body in (("pom", maven.pom(name, "1.0").encode()), ("jar", maven.jar(**{"v.txt": name}))):
        assert stage.do("PUT", stage.client(_maven_path(name, suffix), data=body)).status_code == 201
    return stage.client(f"/maven/default/prod/com/acme/{name}/1.0/")


@drives(f"PUT {NPM_PACKAGE}")
def _npm_publish(stage: Stage) -> Ask:
    name = stage.name("mod")
    return stage.client(f"/npm/default/prod/{name}", json=npm_packages.publish_document(name, "1.0.0"))


@drives(f"PUT {NPM_PACKAGE}/-rev/<rev>")
def _npm_unpublish_one(stage: Stage) -> Ask:
    name = stage.npm("1.0.0", "2.0.0")
    document = stage.npm_document(name)
    del document["versions"]["1.0.0"]
    return stage.client(f"/npm/default/prod/{name}/-rev/{document['_rev']}", json=document)


@drives(f"DELETE {NPM_PACKAGE}/-rev/<rev>")
def _npm_unpublish_all(stage: Stage) -> Ask:
    name = stage.npm("1.0.0")
    return stage.client(f"/npm/default/prod/{name}/-rev/{stage.npm_document(name)['_rev']}")


@drives(f"DELETE {NPM_PACKAGE}/-/<filename>/-rev/<rev>")
def _npm_delete_tarball(stage: Stage) -> Ask:
    name = stage.npm("1.0.0")
    return stage.client(f"/npm/default/prod/{name}/-/{name}-1.0.0.tgz/-rev/{stage.npm_document(name)['_rev']}")


def _tags(stage: Stage, rest: str = "", body: object = None) -> Ask:
    name = stage.npm("1.0.0", "2.0.0", tags=("latest", "beta"))
    options = {} if body is None else {"json": body}
    return stage.client(f"/npm/default/prod/-/package/{name}/dist-tags{rest}", **options)


drive(f"PUT {TAGS}", lambda s: _tags(s, body={"latest": "1.0.0"}))
drive(f"POST {TAGS}", lambda s: _tags(s, body={"latest": "1.0.0"}))
drive(f"PUT {TAGS}/<tag>", lambda s: _tags(s, "/next", "1.0.0"))
drive(f"POST {TAGS}/<tag>", lambda s: _tags(s, "/next", "1.0.0"))
drive(f"DELETE {TAGS}/<tag>", lambda s: _tags(s, "/beta"))


def _npm_login(rest: str = "") -> Ask:
    body = {"name": "reader", "password": PASSWORD}
    return Ask(f"/npm/default/dev/-/user/org.couchdb.user:reader{rest}", options={"json": body})


drive(f"PUT {NPM}/-/user/org.couchdb.user:<user>", lambda _: _npm_login())
drive(f"PUT {NPM}/-/user/org.couchdb.user:<user>/-rev/<rev>", lambda _: _npm_login("/-rev/1"))


@drives(f"DELETE {NPM}/-/user/token/<secret>")
def _npm_logout(stage: Stage) -> Ask:
    secret = stage.token("reader", "read")
    stage.secrets.add(secret)
    return Ask(f"/npm/default/dev/-/user/token/{quote(secret)}", secret)


drive(
    f"POST {NPM}/-/npm/v1/tokens",
    lambda s: Ask(
        "/npm/default/dev/-/npm/v1/tokens", s.tokens["reader"], options={"json": {"password": PASSWORD, "name": "ci"}}
    ),
)
drive(
    f"DELETE {NPM}/-/npm/v1/tokens/token/<key>",
    lambda s: Ask(f"/npm/default/dev/-/npm/v1/tokens/token/{token_id(s, 'reader')}", s.tokens["reader"]),
)
