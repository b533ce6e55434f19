"""What clients ask about packages beside the packages: advisories, signing keys, attestations, and a search.

The audit runs on every install: it never fails, and it never tells anybody outside which names are ours.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any
from urllib.parse import unquote

from flask import Response, request
from sqlalchemy import or_, select

from registry.access import Action, check
from registry.errors import Invalid, NotFound, UpstreamUnavailable
from registry.format import BadIndex
from registry.formats.npm import names, own_advisories
from registry.formats.npm.bodies import answer, read_object
from registry.formats.npm.manifest import from_text
from registry.formats.npm.offers import find_version
from registry.http import auth, context
from registry.models import Package, Repository
from registry.models.package import BLOCK
from registry.names import PackageKey
from registry.policy.actions import USUAL
from registry.rates import CostClass
from registry.repos import browse, shelf
from registry.repos.group_patterns import Mode, Restriction
from registry.repos.signing import key_id
from registry.services import Services

log = logging.getLogger("entrepot.npm")

NAME = names.FORMAT_NAME
BULK = "-/npm/v1/security/advisories/bulk"
QUICK = "-/npm/v1/security/audits/quick"
_QUESTION_LIMIT_BYTES = 2 * 1024 * 1024
_ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
_DOCUMENT_LIMIT_BYTES = 8 * 1024 * 1024
_DEEPEST = 200
_SEVERITIES = ("info", "low", "moderate", "high", "critical")
_MOST_FOUND = 250
_QUALIFIER = re.compile(r"(?:author|maintainer|keywords|not|is|boost-exact|scope):\S*")


def bulk(services: Services) -> Response:
    """Advisories for names with versions: what the upstreams say, without a word about names that are published here.

    Of names that they say nothing of, what an administrator has brought in (``own_advisories``).
    """
    question = read_object(_QUESTION_LIMIT_BYTES)
    ours = _published_names(services)
    asked = {name: versions for name, versions in question.items() if _is_askable(name, ours)}
    found: dict[str, Any] = {}
    for said in _ask_upstreams(services, BULK, asked) if asked else ():
        for name, advisories in said.items():
            if name in asked and isinstance(advisories, list):
                found.setdefault(name, []).extend(advisories)
    # Of what the upstreams say the same things stand among those: only names they say nothing of are looked up here.
    return answer(own_advisories.of_question(services, {n: v for n, v in question.items() if n not in found}) | found)


def quick(services: Services) -> Response:
    """The older question: a whole tree of dependencies."""
    question = read_object(_QUESTION_LIMIT_BYTES)
    asked = _stripped(question, _published_names(services), 0)
    # The project's own name tells more than any dependency's.
    asked.update(name="project", version="0.0.0")
    for said in _ask_upstreams(services, QUICK, asked) if asked.get("dependencies") else ():
        if isinstance(said.get("advisories"), dict) and isinstance(said.get("metadata"), dict):
            return answer(said)
    count = len(question["dependencies"]) if isinstance(question.get("dependencies"), dict) else 0
    nothing = {
        "vulnerabilities": dict.fromkeys(_SEVERITIES, 0),
        "dependencies": count,
        "devDependencies": 0,
        "optionalDependencies": 0,
        "totalDependencies": count,
    }
    return answer({"actions": [], "advisories": {}, "muted": [], "metadata": nothing})


def _published_names(services: Services) -> frozenset[str]:
    """The names of the domain that are ours, in any repository: a question may come through one that holds none."""
    with services.db.read() as session:
        rows = session.execute(
            select(Package.namespace, Package.name)
            .join(Repository, Repository.id == Package.repository_id)
            .where(
                Repository.domain_id == context.admission().domain_id,
                Package.format == NAME,
                # Ours, or prepared to be: the outside must not learn of these names.
                or_(Package.origin == shelf.PUBLISHED, Package.upstream == BLOCK),
            )
        ).all()
    return frozenset(f"@{namespace}/{name}" if namespace else name for namespace, name in rows)


def _is_askable(name: str, ours: frozenset[str]) -> bool:
    try:
        key = names.package_key(name)
    except Invalid:
        return False
    if names.display_name(key) in ours:
        return False
    # What its package group keeps from coming in is nobody's business outside either.
    group = context.services().resolver.topology(context.admission()).groups.ruling(key)
    return group.is_strong and group.restrictions[Restriction.EXTERNAL_UPSTREAM].mode is not Mode.BLOCK


def _stripped(tree: dict[str, Any], ours: frozenset[str], depth: int) -> dict[str, Any]:
    """A dependency tree without our names, at any depth."""
    if depth > _DEEPEST:
        raise Invalid("the tree of dependencies is too deep")
    kept = {field: value for field, value in tree.items() if field not in ("requires", "dependencies")}
    for field in ("requires", "dependencies"):
        inner = tree.get(field)
        if isinstance(inner, dict):
            kept[field] = {
                name: _stripped(value, ours, depth + 1) if isinstance(value, dict) else value
                for name, value in inner.items()
                if _is_askable(name, ours)
            }
        elif field in tree:
            kept[field] = inner
    return kept


def _ask_upstreams(services: Services, path: str, question: dict[str, Any]) -> list[dict[str, Any]]:
    text = json.dumps(question).encode()
    found = []
    for connection in services.resolver.connections(context.admission(), NAME):
        try:
            said = services.upstreams.ask(
                connection, path, text, accept="application/json", limit_bytes=_ANSWER_LIMIT_BYTES
            )
            value = json.loads(said) if said is not None else None
        except (UpstreamUnavailable, ValueError, RecursionError) as error:
            log.info("no advisories from upstream %s: %s", connection.name, error)
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def keys(services: Services) -> Response:
    """The public keys that signatures under this repository's address are made with: ours and the upstreams'."""
    own = services.signer.public_key(NAME)
    found = {
        key_id(own): {
            "expires": None,
            "keyid": key_id(own),
            "keytype": "ecdsa-sha2-nistp256",
            "scheme": "ecdsa-sha2-nistp256",
            "key": base64.b64encode(own).decode("ascii"),
        }
    }
    for connection in services.resolver.connections(context.admission(), NAME):
        try:
            document = services.upstreams.document(
                connection, None, "-/npm/v1/keys", accept="application/json", check=_check_json
            )
        except UpstreamUnavailable as error:
            # Signatures made with these keys fail then at the client, as they must; ours can still be checked.
            log.info("no keys from upstream %s: %s", connection.name, error)
            continue
        listed = json.loads(document.body).get("keys") if document.body is not None else None
        for key in listed if isinstance(listed, list) else ():
            if isinstance(key, dict) and isinstance(key.get("keyid"), str):
                found.setdefault(key["keyid"], key)
    return answer({"keys": list(found.values())})


def _check_json(body: bytes) -> None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadIndex("it is not JSON") from error
    if not isinstance(value, dict):
        raise BadIndex("it is not a JSON object")


def attestations(services: Services, name: str, version: str) -> Response:
    """The Sigstore bundles of a version: those it was published with, or the upstream's."""
    key, admission = names.package_key(name), context.admission()
    if not admission.describes(key, USUAL["read"]):
        check(admission.identity, Action.READ, admission.path, key)
    file = find_version(services, key, version)
    said = from_text(file.extra.get("dist", "{}")).get("attestations")
    if not isinstance(said, dict):
        raise NotFound("attestation", f"{names.display_name(key)}@{version}")
    if file.kept is not None and file.kept.provenance_blob_id is not None:
        bundle = json.loads(services.files.provenance(context.admission(), file, "", accept="*/*", check=_check_json))
        predicate = said.get("provenance", {}).get("predicateType")
        return answer({"attestations": [{"predicateType": predicate, "bundle": bundle}]})
    url = said.get("url")
    body = services.files.provenance(
        context.admission(), file, url if isinstance(url, str) else "", accept="application/json", check=_check_json
    )
    return Response(body, content_type="application/json")


def attested_name(path: str) -> tuple[str, str]:
    """Name and version out of ``name@version``, ``@scope/name@version``."""
    name, _, version = unquote(path).rpartition("@")
    return name, version


def search(services: Services) -> Response:
    """``npm search`` over what the repository and those behind it hold; what upstreams have beyond that is not asked for."""
    auth.charge(CostClass.SEARCH)
    text = request.args.get("text", "")[:200]
    words = [word.lower() for word in _QUALIFIER.sub(" ", text).split()]
    size, start = _number("size", 20, _MOST_FOUND), _number("from", 0, 10_000)
    found: dict[PackageKey, browse.PackageSummary] = {}
    total = 0
    with services.db.read() as session:
        for node in services.resolver.chain(context.admission()):
            for package in _matching(services, session, node.id, words, start + size):
                key = PackageKey(package.format, package.namespace, names.package_key(package.display_name).name)
                found.setdefault(key, package)
    total = len(found)
    page = list(found.values())[start : start + size]
    return answer(
        {"objects": [_found(package) for package in page], "total": total, "time": services.clock().isoformat()}
    )


def _matching(
    services: Services, session: Any, repository_id: int, words: list[str], wanted: int
) -> list[browse.PackageSummary]:
    """A repository's packages with all words in name or description, at most about ``wanted`` of them."""
    found: list[browse.PackageSummary] = []
    after: str | None = None
    # The longest word in the name narrows it down most; a word that only descriptions have finds nothing by it.
    first = max(words, key=len, default="").lstrip("@").partition("/")[0]
    while len(found) < wanted:
        packages = browse.packages(
            session,
            repository_id,
            format_name=NAME,
            search=first,
            after=after,
            limit=browse.LARGEST_PAGE,
            sort_keys={NAME: services.formats[NAME].sort_key},
        )
        # A hit tells more than the name: what it is, its version, who published it.
        describes = context.admission().describes
        found += [package for package in packages if _has(package, words) and describes(package.key)]
        if len(packages) < browse.LARGEST_PAGE:
            break
        after = packages[-1].cursor
    return found


def _has(package: browse.PackageSummary, words: list[str]) -> bool:
    text = f"{package.display_name} {package.summary}".lower()
    return all(word in text for word in words)


def _found(package: browse.PackageSummary) -> dict[str, Any]:
    moment = package.updated_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    publisher = {"username": package.published_by, "email": ""}
    return {
        "package": {
            "name": package.display_name,
            "scope": package.namespace or "unscoped",
            "version": package.latest_version,
            "description": package.summary,
            "keywords": [],
            "date": moment,
            "links": {},
            "publisher": publisher,
            "maintainers": [publisher],
        },
        "score": {"final": 1, "detail": {"quality": 1, "popularity": 1, "maintenance": 1}},
        "searchScore": 1,
    }


def _number(name: str, usual: int, most: int) -> int:
    said = request.args.get(name, "")
    return min(int(said), most) if said.isascii() and said.isdigit() and len(said) < 10 else usual
