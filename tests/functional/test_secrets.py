"""Parameters and secrets: kept sealed, told to nobody but who asks for them by right, and given to builds by policy."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from config import wiring
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.projects import create_or_update_project
from hooks.builds.records import start_build
from hooks.builds.references import Reference, Unresolved, VariableType
from hooks.builds.source import PackageSource
from hooks.jobs import claims
from hooks.jobs.attempt import Attempt
from hooks.models import BuildArtifact
from hooks.models.build import Build, BuildProject
from hooks.models.secret_store import StoredValue, StoredValueVersion
from hooks.secret_store import store
from hooks.secret_store.delivery import Deliveries
from hooks.secret_store.names import Kind, canonical, parameter_and_version, secret_names
from registry.errors import Invalid, InvalidDocument
from tests.build_bench import MISSING_SANDBOX, work_directory
from tests.functional.api_world import PASSWORD, World

VALUE = "tr0ub4dor & 3"
DOCUMENT = json.dumps({"user": "joe", "password": VALUE, "port": 5432})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    with made.db.write() as session:
        for name in ("shop", "other"):
            create_or_update_project(session, name=name, now=made.now)
    yield made
    made.close()


def done(world: World, method: str, path: str, **body: object) -> dict:
    answer = world.call(method, path, json=body) if body else world.call(method, path)
    assert answer.status_code < 300, answer.text
    return answer.json


def got(world: World, kind: VariableType, name: str, project: str = "shop") -> str:
    """What a build of a project gets for a reference."""
    with world.db.read() as session:
        project_id = session.scalars(select(BuildProject.id).where(BuildProject.name == project)).one()
    deliveries = Deliveries(world.db, world.services.stores.server_keyring(), lambda: world.now)
    build = Build(id="b-1", project_id=project_id)
    (found,) = deliveries.resolver(build)([Reference("VAR", kind, name)])
    return found.value


def refusal(world: World, kind: VariableType, name: str, project: str = "shop") -> str:
    with pytest.raises(Unresolved) as caught:
        got(world, kind, name, project)
    return str(caught.value)


# --- the store


def test_a_secret_is_put_replaced_read_and_deleted(world: World):
    made = done(world, "PUT", "/secrets/db/main", secretString="first value", description="of the shop")
    (first,) = made["versions"]
    assert first["versionStages"] == ["AWSCURRENT"]
    replaced = done(world, "PUT", "/secrets/db/main", secretString="second value")
    assert [entry["versionStages"] for entry in replaced["versions"]] == [["AWSCURRENT"], ["AWSPREVIOUS"]]
    assert replaced["description"] == "of the shop"
    read = lambda **more: done(world, "POST", "/secret-values", secretId="db/main", **more)["secretString"]  # noqa: E731
    assert read() == "second value"
    assert read(versionStage="AWSPREVIOUS") == "first value"
    assert read(versionId=first["versionId"]) == "first value"
    done(world, "PUT", "/secrets/db/main", secretString="third value")
    assert [v["versionStages"] for v in done(world, "GET", "/secrets/db/main")["versions"]] == [
        ["AWSCURRENT"], ["AWSPREVIOUS"], [],
    ]  # fmt: skip
    assert world.call("PUT", "/secrets/db/main", json={"secretString": "x", "overwrite": False}).status_code == 409
    assert world.call("DELETE", "/secrets/db/main").status_code == 204
    assert world.call("GET", "/secrets/db/main").status_code == 404
    assert world.call("POST", "/secret-values", json={"secretId": "db/main"}).status_code == 404
    entries = [(action, thing) for _, action, thing in world.audit() if thing == "secret/db/main"]
    assert [action for action, _ in entries] == [
        "secret.create", "secret.put", *["secret.read"] * 3, "secret.put", "secret.delete",
    ]  # fmt: skip


def test_parameters_form_a_hierarchy_and_are_listed_without_their_values(world: World):
    for name in ("/app/prod/url", "app/prod/key", "/app/test/url", "plain"):
        done(world, "PUT", f"/parameters/{name.lstrip('/')}", value=f"value of {name}")
    listed = world.call("GET", "/parameters?path=/app/prod/")
    assert [entry["name"] for entry in listed.json["items"]] == ["/app/prod/key", "/app/prod/url"]
    assert "value of" not in listed.text
    first = world.call("GET", "/parameters?limit=1").json
    assert len(first["items"]) == 1
    second = world.call("GET", "/parameters", query_string={"after": first["next"], "limit": 200}).json
    assert first["items"][0]["name"] not in [entry["name"] for entry in second["items"]]
    assert second["next"] is None
    assert done(world, "POST", "/parameter-values", name="/app/prod/url")["value"] == "value of /app/prod/url"
    done(world, "PUT", "/parameters/plain", value="next", type="String")
    assert done(world, "POST", "/parameter-values", name="plain", version=1)["value"] == "value of plain"
    assert done(world, "GET", "/parameters/plain")["type"] == "String"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/secrets/a%20b", {"secretString": "x"}),
        ("PUT", "/secrets/a//b", {"secretString": "x"}),
        ("PUT", "/secrets/" + "a/" * 16 + "b", {"secretString": "x"}),
        ("PUT", "/secrets/ok", {"secretString": ""}),
        ("PUT", "/secrets/ok", {"secretString": "x" * 65_537}),
        ("PUT", "/secrets/ok", {"secretString": "ö" * 40_000}),
        ("PUT", "/secrets/ok", {"secretString": "x", "isAdmin": True}),
        ("PUT", "/parameters/ok", {"value": "x", "type": "StringList"}),
        ("PUT", "/parameters/ok", {"value": "a\u0000b"}),
        ("PUT", "/parameters/ok", {"value": "x" * 8193}),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_is_stored(world: World, method: str, path: str, body: dict):
    answer = world.call(method, path, json=body)
    assert answer.status_code == 400, answer.text
    assert world.call("GET", "/secrets/ok").status_code == 404
    assert world.call("GET", "/parameters/ok").status_code == 404


def test_values_lie_sealed_and_the_newest_hundred_versions_are_kept(world: World):
    done(world, "PUT", "/secrets/sealed", secretString="in no file of the server")
    with world.db.read() as session:
        boxes = session.scalars(select(StoredValueVersion.sealed)).all()
    assert boxes
    assert not any(b"no file" in box for box in boxes)
    with world.db.write() as session:
        keyring = world.services.stores.server_keyring()
        for number in range(103):
            store.put(session, keyring, Kind.PARAMETER, store.Put("many", f"n{number}"), actor="joe", now=world.now)
    versions = done(world, "GET", "/parameters/many")["versions"]
    assert [entry["number"] for entry in versions] == list(range(103, 3, -1))
    done(world, "DELETE", "/parameters/many")
    with world.db.read() as session:
        kept = session.scalar(text("SELECT count(*) FROM stored_value_version v LEFT JOIN stored_value s"
                                   " ON s.id = v.value_id WHERE s.id IS NULL"))  # fmt: skip
    assert kept == 0


def test_names_are_one_whatever_stands_before_them():
    assert canonical(Kind.PARAMETER, "app/url") == canonical(Kind.PARAMETER, "/app/url") == "/app/url"
    assert canonical(Kind.PARAMETER, "/url") == "url"
    assert canonical(Kind.SECRET, "/db/main") == "db/main"
    assert parameter_and_version("arn:aws:ssm:eu-west-1:123456789012:parameter/app/url") == ("/app/url", None)
    assert parameter_and_version("/app/url:7") == ("/app/url", 7)
    assert secret_names("arn:aws:secretsmanager:eu-west-1:123456789012:secret:db/main-AbCdEf") == (
        "db/main-AbCdEf", "db/main",
    )  # fmt: skip
    for bad in ("", "/", "a b", "../x", "a/..", "a:b", "a\n", "é"):
        with pytest.raises(Invalid):
            canonical(Kind.SECRET, bad)
    with pytest.raises(Invalid):
        parameter_and_version("url:latest")


# --- which project gets what


def test_without_a_word_about_it_no_project_gets_a_value(world: World):
    done(world, "PUT", "/secrets/alone", secretString=VALUE)
    denied = refusal(world, VariableType.SECRETS_MANAGER, "alone")
    assert denied == (
        "AccessDeniedException: project shop is not authorized to perform: secretsmanager:GetSecretValue"
        " on resource: secret/alone"
    )
    never = refusal(world, VariableType.SECRETS_MANAGER, "never-made")
    assert never.replace("never-made", "alone") == denied, "what exists is not told"
    assert ("project/shop", "secret.refuse", "secret/alone") in world.audit()
    assert ("project/shop", "secret.refuse", "secret/never-made") in world.audit()


def test_the_list_of_projects_opens_a_value_to_them_alone(world: World):
    done(world, "PUT", "/secrets/listed", secretString=DOCUMENT, projects=["shop"])
    assert got(world, VariableType.SECRETS_MANAGER, "listed") == DOCUMENT
    assert got(world, VariableType.SECRETS_MANAGER, "listed:password") == VALUE
    assert got(world, VariableType.SECRETS_MANAGER, "listed:port::") == "5432"
    arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:listed-AbCdEf"
    assert got(world, VariableType.SECRETS_MANAGER, f"{arn}:user") == "joe"
    assert ("project/shop", "secret.deliver", "secret/listed") in world.audit()
    assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "listed", "other")
    assert "no such JSON key" in refusal(world, VariableType.SECRETS_MANAGER, "listed:nothing")
    assert "ResourceNotFound" in refusal(world, VariableType.SECRETS_MANAGER, "listed::AWSPREVIOUS")
    done(world, "PUT", "/secrets/listed", secretString="newer")
    assert got(world, VariableType.SECRETS_MANAGER, "listed:user:AWSPREVIOUS") == "joe"
    done(world, "PATCH", "/secrets/listed", projects=[])
    assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "listed")
    assert world.call("PATCH", "/secrets/listed", json={"projects": ["no-such"]}).status_code == 404


def test_a_parameter_is_given_by_name_and_version(world: World):
    done(world, "PUT", "/parameters/given/url", value="one", projects=["shop"])
    done(world, "PUT", "/parameters/given/url", value="two")
    assert got(world, VariableType.PARAMETER_STORE, "/given/url") == "two"
    assert got(world, VariableType.PARAMETER_STORE, "given/url:1") == "one"
    assert "ssm:GetParameters on resource: parameter/given/none" in refusal(
        world, VariableType.PARAMETER_STORE, "/given/none"
    )


def policy(**statement: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*", **statement}]})


def test_a_policy_allows_and_its_deny_wins_over_the_list(world: World):
    done(world, "PUT", "/secrets/ruled", secretString=VALUE)
    action = {"Action": "secretsmanager:GetSecretValue"}
    done(world, "PATCH", "/secrets/ruled", policy=policy(Principal="project/shop", **action))
    assert got(world, VariableType.SECRETS_MANAGER, "ruled") == VALUE
    assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "ruled", "other")
    for useless in (
        policy(Principal="project/shop", Action="ssm:GetParameters"),
        policy(Principal="project/other", **action),
        policy(Principal="project/shop", **{**action, "Resource": "secret/another"}),
        policy(Principal="project/shop", Condition={"StringEquals": {"aws:username": "joe"}}, **action),
    ):
        done(world, "PATCH", "/secrets/ruled", policy=useless)
        assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "ruled"), useless
    done(world, "PATCH", "/secrets/ruled", policy=policy(Principal="*", Resource="secret/rul*", **action))
    assert got(world, VariableType.SECRETS_MANAGER, "ruled", "other") == VALUE
    deny = policy(Effect="Deny", Principal="project/shop", Action="secretsmanager:*")
    done(world, "PATCH", "/secrets/ruled", policy=deny, projects=["shop", "other"])
    assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "ruled")
    assert got(world, VariableType.SECRETS_MANAGER, "ruled", "other") == VALUE
    done(world, "PATCH", "/secrets/ruled", policy="")
    assert done(world, "GET", "/secrets/ruled")["policy"] is None
    assert got(world, VariableType.SECRETS_MANAGER, "ruled") == VALUE
    for faulty in (
        "{", policy(Principal="user/admin", **action), policy(Principal="project/shop", Action="no:Such"),
        policy(Principal="project/shop", **{**action, "Resource": "repository/default/dev"}),
    ):  # fmt: skip
        assert world.call("PATCH", "/secrets/ruled", json={"policy": faulty}).status_code == 400, faulty
    unknown = policy(Principal="project/never", **action)
    assert world.call("PATCH", "/secrets/ruled", json={"policy": unknown}).status_code == 404


def test_a_project_made_anew_under_an_old_name_gets_nothing(world: World):
    with world.db.write() as session:
        create_or_update_project(session, name="short-lived", now=world.now)
    done(world, "PUT", "/secrets/bound", secretString=VALUE, projects=["short-lived"])
    only = policy(Principal="project/short-lived", Action="secretsmanager:GetSecretValue")
    done(world, "PATCH", "/secrets/bound", policy=only)
    assert got(world, VariableType.SECRETS_MANAGER, "bound", "short-lived") == VALUE
    with world.db.write() as session:
        session.delete(session.scalars(select(BuildProject).where(BuildProject.name == "short-lived")).one())
        session.flush()
        create_or_update_project(session, name="short-lived", now=world.now)
    assert "AccessDenied" in refusal(world, VariableType.SECRETS_MANAGER, "bound", "short-lived")


def test_a_rotation_of_the_keys_covers_the_values(world: World):
    field = next(each for each in wiring.sealed_fields() if each.what == "values of parameters and secrets")
    with world.db.read() as session:
        rows = session.execute(field.rows).all()
        named = session.scalars(select(StoredValue.id)).all()
    keyring = world.services.stores.server_keyring()
    assert rows
    assert named
    for row in rows:
        assert keyring.unseal(row.sealed, field.context(row))


# --- all of it together


BUILT = {
    "version": "0.2",
    "env": {"secrets-manager": {"DATABASE": "real/db:password"}, "parameter-store": {"ADDRESS": "/real/address"}},
    "phases": {"build": {"commands": ['echo "$DATABASE $ADDRESS $TYPED"', 'test "$TYPED" = "typed secret"']}},
}
# What is no secret may be in an artifact; what is may not, and not in its name either.
KEPT = {
    **BUILT,
    "phases": {"build": {"commands": [*BUILT["phases"]["build"]["commands"], 'echo "$ADDRESS" >note']}},
    "artifacts": {"files": ["note"], "name": "for-$TYPED"},
}
LEAKY = {
    **BUILT,
    "phases": {"build": {"commands": ['echo "$DATABASE" | base64 >leak', "echo harmless >note"]}},
    "artifacts": {"files": ["note"], "secondary-artifacts": {"other": {"files": ["leak"]}}},
}


@pytest.mark.skipif(bool(MISSING_SANDBOX), reason=MISSING_SANDBOX)
def test_a_build_gets_what_its_project_may_have_and_its_log_tells_nothing_of_it(world: World):
    world.publish("dev", "Real-Thing", "1.0", canonical="1")
    specs = {"real": KEPT, "poor": BUILT, "leaky": LEAKY}
    for project, spec in specs.items():
        with world.db.write() as session:
            create_or_update_project(
                session,
                name=project,
                now=world.now,
                buildspec=json.dumps(spec),
                environment={
                    "network": "none",
                    "variables": {"TYPED": {"type": "SECRETS_MANAGER", "value": "real/typed"}},
                },
            )
    done(world, "PUT", "/secrets/real/db", secretString=DOCUMENT, projects=["real", "leaky"])
    done(world, "PUT", "/secrets/real/typed", secretString="typed secret", projects=[*specs])
    done(world, "PUT", "/parameters/real/address", value="https://shop.example/", type="String", projects=[*specs])
    source = PackageSource("default", "dev", "pypi", "real-thing", "1.0", ())
    with work_directory() as place:
        available = {"process": ProcessExecutor(ProcessSettings(place))}
        table = wiring.build_jobs(world.settings, world.services, world.hooks.actions, available)
        ended = {}
        for project in specs:
            with world.db.write() as session:
                build = start_build(session, project=project, source=source, initiator="joe", now=world.now).id
            with world.db.write() as session:
                (job,) = claims.claim(session, owner="w", queues=["builds"], kinds=["build"], free=1, lease_seconds=600)
            Attempt(
                world.db, job, handler=table.handlers["build"], settle=table.settle["build"],
                lease_seconds=600, first_retry_seconds=600,
            ).run()  # fmt: skip
            with world.db.read() as session:
                row = session.get_one(Build, build)
                log = world.hooks.logs.read(session, build, 0, 10**6)[0].decode()
                kept = session.execute(
                    select(BuildArtifact.identifier, BuildArtifact.name).where(BuildArtifact.build_id == build)
                )
                ended[project] = (row.status, row.message, log, {row.identifier: row.name for row in kept})
    status, _, log, kept_as = ended["real"]
    assert status == "SUCCEEDED", log
    assert "*** *** ***" in log.splitlines()
    assert not [value for value in (VALUE, "shop.example", "typed secret") if value in log]
    assert {("secret.deliver", "secret/real/db"), ("parameter.deliver", "parameter/real/address")} <= {
        (action, thing) for who, action, thing in world.audit() if who == "project/real"
    }
    assert kept_as == {"primary": "for-***"}
    status, message, log, _ = ended["poor"]
    assert (status, "AccessDeniedException" in message, "Running command" in log) == ("FAILED", True, False)
    status, message, _, kept_as = ended["leaky"]
    assert (status, message) == ("FAILED", "leak in the artifact holds a secret of the build")
    assert kept_as == {"primary": "leaky"}


@pytest.mark.parametrize(
    "variable",
    [
        {"type": "PLAINTEXT", "value": "x"}, {"type": "SECRETS_MANAGER"}, {"type": "SECRETS_MANAGER", "value": "a:b:c:d"},
        {"type": "PARAMETER_STORE", "value": ""}, {"type": "PARAMETER_STORE", "value": "x", "more": "y"}, 7,
    ],
)  # fmt: skip
def test_a_variable_that_names_nothing_is_refused_when_the_project_is_saved(world: World, variable: object):
    with pytest.raises(InvalidDocument), world.db.write() as session:
        create_or_update_project(session, name="bad", now=world.now, environment={"variables": {"A": variable}})


# --- the pages


def test_pages_take_values_and_show_none(world: World):
    browser = world.app.test_client()
    assert browser.post("/sign-in", data={"user": "admin", "password": PASSWORD}).status_code == 303
    cookie = browser.get_cookie("entrepot_session")
    assert cookie is not None
    with world.db.read() as session:
        found = world.services.accounts.browser_session(session, cookie.value, world.now)
    assert found is not None

    def post(path: str, **form: str) -> TestResponse:
        return browser.post(path, data={"csrf_token": found.csrf_token, **form})

    made = post("/secrets", kind="secret", name="typed/in", value="one\r\ntwo typed in", projects="shop, other")
    assert made.status_code == 303, made.text
    page = browser.get(made.headers["Location"]).text
    assert "typed/in" in page
    assert "two typed in" not in page
    assert done(world, "POST", "/secret-values", secretId="typed/in")["secretString"] == "one\ntwo typed in"
    again = post("/secrets", kind="secret", name="typed/in", value="never kept", description="kept in the form")
    assert (again.status_code, "exists already" in again.text, "kept in the form" in again.text) == (409, True, True)
    assert "never kept" not in again.text
    assert post(f"{made.headers['Location']}/value", value="three typed in").status_code == 303
    refused = post(f"{made.headers['Location']}/about", projects="nobody-knows", description="x")
    assert (refused.status_code, "nobody-knows" in refused.text) == (404, True)
    assert post(f"{made.headers['Location']}/about", projects="shop", policy="{").status_code == 400
    assert done(world, "GET", "/secrets/typed/in")["projects"] == ["other", "shop"]
    assert got(world, VariableType.SECRETS_MANAGER, "typed/in", "other") == "three typed in"
    assert "typed in" not in browser.get("/secrets").text.replace("typed/in", "")
    stranger = world.app.test_client()
    assert stranger.post("/sign-in", data={"user": "publisher", "password": PASSWORD}).status_code == 303
    assert [stranger.get(path).status_code for path in ("/secrets", "/secrets/1", "/secrets/99999")] == [403] * 3
    assert "/secrets" not in stranger.get("/").text
    assert post(f"{made.headers['Location']}/delete").status_code == 303
    assert world.call("GET", "/secrets/typed/in").status_code == 404
