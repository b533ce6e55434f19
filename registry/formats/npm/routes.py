"""The npm registry API over HTTP: which address is what, and who may use it.

A name with a scope holds a slash, which clients encode in three ways; WSGI hands all of them over decoded, so that one
converter takes ``name`` and ``@scope/name`` alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, request, url_for
from werkzeug.routing import BaseConverter

from registry.access import Action
from registry.errors import Invalid, NotFound
from registry.formats.npm import advice, changes, elsewhere, offers, rights, sign_in
from registry.formats.npm.bodies import answer, say
from registry.formats.npm.changes import DELETE_PACKAGE, DELETE_VERSIONS, PUBLISH, PUT_METADATA
from registry.formats.npm.names import FORMAT_NAME, package_key
from registry.http import auth, context
from registry.http.delivery import send_offered
from registry.http.problems import answering
from registry.names import PackageKey
from registry.services import Services

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class PackageConverter(BaseConverter):
    """``name`` or ``@scope/name``; ``-`` is never a name, because everything that is no package is below it."""

    regex = r"(?:@[^/]+/)?(?!-(?:/|$))[^@/][^/]*"
    part_isolating = False


def blueprint(services: Services) -> Blueprint:
    """The routes, to be mounted at ``/npm/<domain>/<repository>``."""
    routes = Blueprint("npm", __name__)
    routes.record_once(lambda state: state.app.url_map.converters.update(npm_package=PackageConverter))
    routes.register_error_handler(Exception, answering(say))
    _Routes(routes, services).add_all()
    return routes


class _Routes:
    """Adds the rules to a blueprint, each with its permission."""

    def __init__(self, routes: Blueprint, services: Services) -> None:
        self._routes = routes
        self._services = services
        self._read = auth.client(Action.READ, format_name=FORMAT_NAME)
        self._read_package = auth.client(Action.READ, format_name=FORMAT_NAME, package=_named)

    def add_all(self) -> None:
        """Add every rule."""
        self._packages()
        self._changes()
        self._people()
        self._advice()
        self._rights()
        self._rest()

    def _add(self, methods: str, rule: str, view: Any, decorate: Any) -> None:
        endpoint = f"{methods} {rule}".replace(".", "_")
        self._routes.add_url_rule(rule, endpoint=endpoint, view_func=decorate(view), methods=methods.split())

    def _packages(self) -> None:
        services = self._services
        read = self._read_package

        def tarball(name: str, filename: str) -> Response:
            key = package_key(name)
            found = services.resolver.find_file(context.admission(), key, filename)
            return send_offered(services, key, found)

        def scoped_tarball(name: str, filename: str, **_: str) -> Response:
            return tarball(name, filename)

        self._add("GET", "/<npm_package:name>", lambda name: offers.send_packument(services, name), read)
        self._add(
            "GET",
            "/<npm_package:name>/<wanted>",
            lambda name, wanted: offers.send_version(services, name, wanted),
            read,
        )
        self._add("GET", "/<npm_package:name>/-/<filename>", tarball, read)
        # Some registries' documents repeat the scope before the file name.
        self._add("GET", "/<npm_package:name>/-/<scope>/<filename>", scoped_tarball, read)
        tags = "/-/package/<npm_package:name>/dist-tags"
        self._add("GET", tags, lambda name: offers.send_tags(services, name), read)

    def _changes(self) -> None:
        services = self._services
        # One address takes a publish, and the document back with warnings and tags changed; the body says which.
        publish, metadata = _may(PUBLISH, PUT_METADATA), _may(PUT_METADATA)
        # A document without some versions takes these out; one with other owners or warnings changes these.
        remove = _may(DELETE_VERSIONS, PUT_METADATA)
        package, tags = "/<npm_package:name>", "/-/package/<npm_package:name>/dist-tags"
        self._add("PUT", package, lambda name: changes.put_package(services, name), publish)
        self._add("PUT", f"{package}/-rev/<rev>", lambda name, rev: changes.put_revision(services, name, rev), remove)
        self._add(
            "DELETE",
            f"{package}/-rev/<rev>",
            lambda name, rev: changes.delete_package(services, name, rev),
            _may(DELETE_PACKAGE, DELETE_VERSIONS),
        )
        self._add(
            "DELETE",
            f"{package}/-/<filename>/-rev/<rev>",
            lambda name, filename, rev: changes.delete_tarball(services, name, filename, rev),
            _may(DELETE_VERSIONS),
        )
        self._add("PUT", tags, lambda name: changes.put_tags(services, name, replaces=True), metadata)
        self._add("POST", tags, lambda name: changes.put_tags(services, name, replaces=False), metadata)
        self._add("PUT POST", f"{tags}/<tag>", lambda name, tag: changes.put_tag(services, name, tag), metadata)
        self._add("DELETE", f"{tags}/<tag>", lambda name, tag: changes.delete_tag(services, name, tag), metadata)

    def _people(self) -> None:
        services, read = self._services, self._read

        def begin(domain: str, repository: str) -> Response:
            root = (services.public_url or request.url_root).rstrip("/")
            page = url_for("pages.client_login").removeprefix(request.script_root)
            return sign_in.begin(services, f"{root}/{FORMAT_NAME}/{domain}/{repository}/", root + page)

        def collect(**_: str) -> Response:
            return sign_in.collect(services)

        def by_password(domain: str, repository: str, user: str, **_: str) -> Response:
            return sign_in.by_password(services, domain, repository, user)

        waits = auth.public("npm has no credential yet: whoever lets it in is signed in, and callers are limited")
        polls = auth.public("the one-time secret in the address is the credential")
        password = auth.public("the password in the body is the credential; attempts are limited")
        user = "/-/user/org.couchdb.user:<user>"
        self._add("POST", "/-/v1/login", begin, waits)
        self._add("GET", "/-/v1/done", collect, polls)
        self._add("PUT", user, by_password, password)
        self._add("PUT", f"{user}/-rev/<rev>", by_password, password)
        self._add("GET", user, sign_in.couch_user, read)
        self._add("GET", "/-/whoami", sign_in.who, read)
        self._add("GET", "/-/npm/v1/user", lambda: sign_in.profile(services), read)
        self._add("DELETE", "/-/user/token/<secret>", lambda secret: sign_in.sign_out(services, secret), read)
        self._add("GET", "/-/npm/v1/tokens", lambda: sign_in.list_tokens(services), read)
        self._add("POST", "/-/npm/v1/tokens", lambda: sign_in.create_token(services), read)
        self._add("DELETE", "/-/npm/v1/tokens/token/<key>", lambda key: sign_in.delete_token(services, key), read)

    def _advice(self) -> None:
        services, read = self._services, self._read

        def attested(attested: str) -> Response:
            return advice.attestations(services, *advice.attested_name(attested))

        self._add("GET", "/-/ping", lambda: answer({}), read)
        self._add("POST", f"/{advice.BULK}", lambda: advice.bulk(services), read)
        for rule in (f"/{advice.QUICK}", "/-/npm/v1/security/audits"):
            self._add("POST", rule, lambda: advice.quick(services), read)
        self._add("GET", "/-/npm/v1/keys", lambda: advice.keys(services), read)
        self._add("GET", "/-/npm/v1/attestations/<path:attested>", attested, read)
        self._add("GET", "/-/v1/search", lambda: advice.search(services), read)

    def _rights(self) -> None:
        services, package = self._services, "/-/package/<npm_package:name>"
        read = self._read_package
        self._add("GET", f"{package}/visibility", lambda name: rights.visibility(services, name), read)
        self._add("GET", f"{package}/collaborators", lambda name: rights.collaborators(services, name), read)
        self._add("GET", "/-/user/<user>/package", lambda user: rights.packages(services, user), self._read)

    def _rest(self) -> None:
        def unknown(rest: str, **_: str) -> Response:
            if said := elsewhere.sentence(rest):
                raise Invalid(said)
            raise NotFound("address", "under this registry")

        self._add("GET", "/", lambda: answer({"db_name": "registry"}), self._read)
        public = auth.public("nothing is there, which anybody may be told in npm's words")
        self._add(" ".join(_METHODS), "/<path:rest>", unknown, public)


def _may(permission: str, *or_else: str) -> Any:
    return auth.client(Action.PUBLISH, format_name=FORMAT_NAME, package=_named, permission=permission, or_else=or_else)


def _named(route: Mapping[str, str]) -> PackageKey:
    return package_key(route["name"])
