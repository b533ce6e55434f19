"""``entrepot package origin``, ``package explain`` and ``package-group`` against a running server."""

import json
from collections.abc import Iterator

import pytest
import requests
from click.testing import CliRunner, Result

from config.cli.client import package, package_group, repo
from tests.harness.npm_packages import publish_document
from tests.harness.server import Server

COMMANDS = {"package": package, "package-group": package_group, "repo": repo}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {"ENTREPOT_UPSTREAM_URLS": "generic=http://127.0.0.1:9/"}
    running = Server(tmp_path_factory.mktemp("commands") / "data", with_worker=False, environment=environment).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def admin(server: Server) -> str:
    return server.token()


def run(server: Server, admin: str, *words: str, status: int = 0, answer: str | None = None) -> Result:
    runner = CliRunner(env={"ENTREPOT_URL": server.url, "ENTREPOT_TOKEN": admin})
    done = runner.invoke(COMMANDS[words[0]], list(words[1:]), input=answer)
    assert done.exit_code == status, (words, done.output, done.exception)
    return done


def test_groups_from_making_to_deleting(server: Server, admin: str) -> None:
    pattern = "/generic//acme~"
    run(server, admin, "package-group", "create", pattern, "--description", "ours")
    configured = ["--restriction", "EXTERNAL_UPSTREAM=BLOCK", "--restriction", "PUBLISH=ALLOW_SPECIFIC_REPOSITORIES"]
    run(server, admin, "package-group", "configure", pattern, *configured, "--add", "PUBLISH=dev")
    shown = json.loads(run(server, admin, "package-group", "show", pattern, "--json").stdout)
    said = {name: each["mode"] for name, each in shown["originConfiguration"]["restrictions"].items()}
    assert said == {
        "PUBLISH": "ALLOW_SPECIFIC_REPOSITORIES",
        "INTERNAL_UPSTREAM": "INHERIT",
        "EXTERNAL_UPSTREAM": "BLOCK",
    }
    assert [line.split("\t")[0] for line in run(server, admin, "package-group", "list").stdout.splitlines()] == [
        "/*",
        pattern,
    ]
    run(server, admin, "package-group", "update", pattern, "--contact", "ada")
    refused = run(server, admin, "package-group", "configure", pattern, "--restriction", "OTHER=BLOCK", status=2)
    assert "write one of PUBLISH" in refused.stderr
    run(server, admin, "package-group", "delete", pattern, status=1, answer="n\n")
    run(server, admin, "package-group", "delete", pattern, "--yes")
    assert pattern not in run(server, admin, "package-group", "list").stdout


def test_controls_and_the_explanation_of_what_they_do(server: Server, admin: str) -> None:
    put = ("package", "origin", "put", "dev", "planned", "--format", "generic")
    run(server, admin, *put, "--publish", "ALLOW", "--upstream", "BLOCK")
    shown = run(server, admin, "package", "origin", "show", "dev", "planned", "--format", "generic").stdout
    assert shown.splitlines() == ["publish\tALLOW", "upstream\tBLOCK"]
    asked = run(server, admin, *put, "--publish", "ALLOW", "--upstream", "ALLOW", status=1, answer="n\n")
    assert "anybody who can publish that name there is trusted with it" in asked.stderr
    told = run(server, admin, "package", "explain", "planned", "--repository", "dev", "--format", "generic").stdout
    lines = [line.split("\t") for line in told.splitlines()]
    assert ["package group", "/*", "", "associated"] in lines
    assert ["publish", "dev", "yes", "nothing stands against it"] in lines
    assert [
        "versions kept",
        "public",
        "no",
        "the origin controls of planned in dev block its upstreams (upstream: BLOCK)",
    ] in lines
    run(server, admin, *put, "--publish", "ALLOW", "--upstream", "ALLOW", "--yes")
    found = json.loads(
        run(server, admin, "package", "explain", "planned", "--format", "generic", "--version", "9", "--json").stdout
    )
    assert (found["versions"], found["repositories"][0]["upstream"]) == ([], "ALLOW")


@pytest.mark.parametrize("spelling", ["@acme/ui", "acme/ui"])
@pytest.mark.parametrize("known", [(), ("--format", "npm")], ids=["looked up", "with its format"])
def test_a_package_with_a_namespace_is_taken_as_lists_write_it(
    server: Server, admin: str, spelling: str, known: tuple[str, ...]
) -> None:
    held = f"{server.url}/npm/default/dev/@acme%2fui"
    there = requests.get(held, headers={"Authorization": f"Bearer {admin}"}, timeout=30)
    if there.status_code == 404:
        document = publish_document("@acme/ui", "1.0.0")
        requests.put(held, json=document, headers={"Authorization": f"Bearer {admin}"}, timeout=30).raise_for_status()
    assert "@acme/ui" in run(server, admin, "package", "list", "dev").stdout
    run(server, admin, "package", "status", "dev", spelling, "Unlisted", "--version", "1.0.0", *known)
    listed = run(server, admin, "package", "versions", "dev", spelling, *known).stdout
    assert listed.split("\t")[:2] == ["1.0.0", "Unlisted"]
    run(server, admin, "package", "status", "dev", spelling, "Published", "--version", "1.0.0", *known)
    run(server, admin, "package", "yank", "dev", spelling, "1.0.0", "--reason", "broken", *known)
    run(server, admin, "package", "unyank", "dev", spelling, "1.0.0", *known)
    shown = json.loads(run(server, admin, "package", "show", "dev", spelling, "1.0.0", "--json", *known).stdout)
    assert (shown["displayName"], shown["yankedReason"]) == ("@acme/ui", None)
    run(server, admin, "package", "copy", "dev", spelling, "1.0.0", "--to", "prod", *known)
    held_by = json.loads(run(server, admin, "package", "show", "prod", spelling, "1.0.0", "--json", *known).stdout)
    assert held_by["heldBy"] == ["dev", "prod"]
    told = run(server, admin, "package", "explain", spelling, "--repository", "dev", *known).stdout
    assert "1.0.0 (published)\tdev\tyes" in told
    controls = run(server, admin, "package", "origin", "show", "dev", spelling, "--format", "npm").stdout
    assert controls.splitlines() == ["publish\tALLOW", "upstream\tBLOCK"]
    run(server, admin, "package", "delete", "prod", spelling, "1.0.0", "--yes", *known)


def test_a_pattern_that_no_package_can_match_is_refused(server: Server, admin: str) -> None:
    for pattern in ("/pypi/acme/*", "/generic/acme/tool~", "/pypi/acme~"):
        refused = run(server, admin, "package-group", "create", pattern, status=1)
        assert "matches no package" in refused.stderr
    for pattern in ("/npm/acme/*", "/maven/com.acme~"):
        run(server, admin, "package-group", "create", pattern)
        run(server, admin, "package-group", "delete", pattern, "--yes")


def test_a_repository_is_changed_as_far_as_is_said(server: Server, admin: str) -> None:
    run(server, admin, "repo", "create", "teams", "--upstream", "dev", "--description", "theirs")
    run(server, admin, "repo", "update", "teams", "--upstream", "staging", "--upstream", "dev", "--anonymous-read")
    changed = json.loads(run(server, admin, "repo", "show", "teams", "--json").stdout)
    assert (changed["upstreams"], changed["anonymousRead"], changed["description"]) == (
        ["staging", "dev"],
        True,
        "theirs",
    )
    run(server, admin, "repo", "update", "teams", "--no-upstreams", "--no-anonymous-read")
    changed = json.loads(run(server, admin, "repo", "show", "teams", "--json").stdout)
    assert (changed["upstreams"], changed["anonymousRead"]) == ([], False)
    assert "say what is to change" in run(server, admin, "repo", "update", "teams", status=2).stderr
    both = run(server, admin, "repo", "update", "teams", "--upstream", "dev", "--no-upstreams", status=2)
    assert "say different things" in both.stderr
