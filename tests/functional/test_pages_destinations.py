"""Setting a destination from its page: the secret goes in and is on no page again (I10)."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from hooks.destinations import store
from tests.browser.site import PASSWORD, Site, build
from tests.functional.test_pages_pipelines import form_at

SECRET = "correct-horse-battery"


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    made = build(tmp_path)
    made.person("ada", ["admin"])
    made.person("rob", ["read", "publish"], ["default/*"])
    yield made
    made.world.close()


def sign_in(site: Site, name: str = "ada") -> FlaskClient:
    client = site.app.test_client()
    assert client.post("/sign-in", data={"user": name, "password": PASSWORD}).status_code == 303
    return client


def test_a_destination_is_set_changed_and_deleted(site: Site) -> None:
    ada = sign_in(site)
    assert "No destination yet" in ada.get("/destinations").text
    form = form_at(ada, "/destinations", "/destinations", name="partners", format="npm", user="bot", secret=SECRET)
    form |= {"url": "https://registry.example/npm/", "repositories": "default/prod default/staging"}
    answer = ada.post("/destinations", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/destinations")
    shown = ada.get("/destinations").text + ada.get("/destinations?name=partners").text + ada.get("/audit").text
    assert "Its secret is not shown again" in shown
    assert "https://registry.example/npm/" in shown
    assert SECRET not in shown
    with site.services.db.read() as session:
        row = store.find(session, "partners")
        assert store.opened(site.services.stores.server_keyring(), row) == store.DestinationSecret("bot", SECRET)
        assert SECRET.encode() not in bytes(row.sealed_credential)
    # the same without the secret keeps it; another host wants it again, and what was typed stays in the form
    form = form_at(ada, "/destinations?name=partners", "/destinations", format="npm", secret="")
    assert ada.post("/destinations", data={**form, "user": ""}).status_code == 303
    refused = ada.post("/destinations", data={**form, "user": "", "url": "https://elsewhere.example/", "secret": ""})
    assert (refused.status_code, "another host" in refused.text) == (409, True)
    assert 'value="https://elsewhere.example/"' in refused.text
    wrong = ada.post("/destinations", data={**form, "user": "bot", "url": "http://169.254.169.254/", "secret": SECRET})
    assert (wrong.status_code, SECRET in wrong.text) == (400, False)
    gone = form_at(ada, "/destinations", "/delete")
    assert ada.post("/destinations/partners/delete", data=gone).status_code == 303
    assert "No destination yet" in ada.get("/destinations").text


def test_only_administrators_come_there(site: Site) -> None:
    rob = sign_in(site, "rob")
    assert rob.get("/destinations").status_code == 403
    assert "Destinations" not in rob.get("/").text
    assert "Destinations" in sign_in(site).get("/administration").text  # the control
