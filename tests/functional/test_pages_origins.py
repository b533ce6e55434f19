"""Origin controls and package groups on their pages: what is shown, what the forms do, and who may use them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.browser.site import Site, build, fill
from tests.functional.test_pages import get, sign_in

PACKAGE = "/packages/default/dev/pypi/acme-tax"
GROUPS = "/package-groups/default"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("origins")
    made = build(folder)
    fill(made)
    made.person("pam", ["read", "publish"], ["default/dev"])
    yield made
    made.world.close()


def post(client: FlaskClient, path: str, **form: object) -> TestResponse:
    token = re.search(r'name="csrf_token" value="([^"]+)"', get(client, "/account"))
    assert token is not None
    return client.post(path, data={"csrf_token": token[1], **form})


def test_controls_are_set_on_the_packages_page_and_both_only_by_who_is_sure(site: Site) -> None:
    ada = sign_in(site)
    assert "block its upstreams (upstream: BLOCK)" in get(ada, PACKAGE)
    assert post(ada, f"{PACKAGE}/origin", controls="ALLOW-ALLOW").status_code == 400
    assert post(ada, f"{PACKAGE}/origin", controls="ALLOW-NEVER").status_code == 400
    assert "mixed" not in get(ada, PACKAGE)
    assert post(ada, f"{PACKAGE}/origin", controls="ALLOW-ALLOW", sure="yes").status_code == 303
    assert "mixed: published here and taken from upstreams" in get(ada, PACKAGE)
    assert post(ada, f"{PACKAGE}/origin", controls="ALLOW-BLOCK").status_code == 303
    assert "mixed" not in get(ada, PACKAGE)


def test_a_group_is_made_set_and_deleted(site: Site) -> None:
    ada, where = sign_in(site), f"{GROUPS}/group?pattern=/pypi//acme~"
    assert post(ada, GROUPS, pattern="/pypi//acme~", description="our names").status_code == 303
    assert "our names" in get(ada, GROUPS)
    modes = {"PUBLISH": "ALLOW_SPECIFIC_REPOSITORIES", "INTERNAL_UPSTREAM": "INHERIT", "EXTERNAL_UPSTREAM": "BLOCK"}
    chosen = {**modes, "PUBLISH-repository": ["dev", "staging"]}
    assert post(ada, f"{GROUPS}/group", pattern="/pypi//acme~", **chosen).status_code == 303
    page = get(ada, where)
    assert re.findall(r'value="(\w+)" checked', page) == ["dev", "staging"]
    assert "acme-tax" in page
    assert (
        post(ada, f"{GROUPS}/group", pattern="/pypi//acme~", **modes, **{"PUBLISH-repository": "dev"}).status_code
        == 303
    )
    assert re.findall(r'value="(\w+)" checked', get(ada, where)) == ["dev"]
    assert post(ada, f"{GROUPS}/group/delete", pattern="/pypi//acme~").status_code == 303
    get(ada, where, 404)
    assert post(ada, f"{GROUPS}/group/delete", pattern="/*").status_code == 400


def test_who_is_no_administrator_sees_and_changes_nothing(site: Site) -> None:
    pam = sign_in(site, "pam")
    assert "Make a group" not in get(pam, GROUPS)
    assert "Allow both" not in get(pam, PACKAGE)
    forms = {
        GROUPS: {"pattern": "/pypi/*"},
        f"{GROUPS}/group": {"pattern": "/*", "PUBLISH": "BLOCK"},
        f"{GROUPS}/group/delete": {"pattern": "/*"},
        f"{PACKAGE}/origin": {"controls": "BLOCK-BLOCK"},
    }
    assert {post(pam, path, **form).status_code for path, form in forms.items()} == {403}
