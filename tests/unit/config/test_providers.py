"""Identity providers in the settings: every fault is told, and secrets come from a file or the environment."""

from pathlib import Path

import pytest

from config import settings

GOOD = '[oidc.corp]\nissuer = "https://login.example/corp"\nclient_id = "entrepot"\n'


def load(folder: Path, text: str, environment: dict[str, str] | None = None) -> settings.Settings:
    (folder / "entrepot.toml").write_text(text)
    return settings.load(folder, environment or {})


def test_what_is_left_out_is_safe(tmp_path: Path):
    (provider,) = load(tmp_path, GOOD).providers
    assert (provider.name, provider.button, provider.source) == ("corp", "corp", "oidc:corp")
    assert {provider.create_users, provider.match_existing, provider.fresh_without_auth_time} == {False}
    assert provider.policy.allowed_networks == ()
    assert provider.algorithms == ("RS256", "ES256")
    assert load(tmp_path, "").providers == ()


def test_the_secret_comes_from_a_file_or_the_environment_and_shows_nowhere(tmp_path: Path):
    (tmp_path / "secret").write_text("from the file\n")
    text = GOOD + f'client_secret_file = "{tmp_path / "secret"}"\n'
    assert load(tmp_path, text).providers[0].client_secret == "from the file"
    loaded = load(tmp_path, text, {"ENTREPOT_OIDC_CORP_CLIENT_SECRET": "from outside"})
    assert loaded.providers[0].client_secret == "from outside"
    assert "from outside" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("oidc = 3", "a section for each"),
        ("[oidc]\nissuer = 'x'", "a section for each"),
        ("[oidc.Corp]", "a name has"),
        ("[oidc.corp]", "issuer is missing"),
        (GOOD + "client_secret = 'x'", "client_secret is not a setting"),
        (GOOD + "client_secret_file = '/nowhere'", "client_secret_file"),
        (GOOD + "create_users = 'yes'", "neither true nor false"),
        (GOOD + "scopes = 'openid'", "not a list"),
        (GOOD + "scopes = ['email']", "must hold openid"),
        (GOOD + "algorithms = ['HS256']", "algorithms: HS256"),
        (GOOD + "algorithms = ['none']", "algorithms: none"),
        (GOOD + "algorithms = []", "at least one"),
        (GOOD + "new_user_actions = ['fly']", "actions are"),
        (GOOD + "allowed_networks = ['here']", "allowed_networks"),
        (GOOD + "[oidc.corp.groups]\na = 'b'", "needs groups_claim"),
        (GOOD + "groups_claim = 'groups'\n[oidc.corp.groups]\na = 'NOT A GROUP'", "group name"),
        (GOOD.replace("https", "http"), "without https"),
        (GOOD.replace("https", "ftp"), "issuer"),
        (GOOD.replace("login.example", "169.254.169.254"), "not allowed"),
        (GOOD.replace('/corp"', '/corp?x=1"'), "neither query"),
        (GOOD + GOOD.replace("oidc.corp", "oidc.other"), "two providers"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, words: str):
    with pytest.raises(settings.BadSettings) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
