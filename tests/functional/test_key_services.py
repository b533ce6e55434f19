"""A server whose master key is held by a service: moved there without touching a body, rotated by the worker, and away."""

import time
from pathlib import Path

import pytest
import requests

from tests.harness import packages
from tests.harness.key_services import CREDENTIALS, Kms, OpenBao
from tests.harness.publishing import file_url, publish
from tests.harness.server import Server


def bodies(server: Server) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (server.data / "blobs").rglob("*") if path.is_file()}


def masters(server: Server) -> set[str]:
    lines = server.command("keys", "list", "--data", str(server.data)).stdout.splitlines()
    assert lines[0].split()[0] == "DOMAIN"
    return {" ".join(line.split()[7:]) for line in lines[1:] if " destroyed " not in line}


@pytest.mark.long
def test_the_master_key_moves_to_vault_and_on_to_kms(tmp_path: Path) -> None:
    bao, kms = OpenBao(tmp_path / "bao"), Kms(tmp_path / "kms")
    server = Server(tmp_path / "data")
    try:
        bao.start()
        kms.start()
        secret = tmp_path / "secret-id"
        secret.write_text(bao.secret_id)
        server.environment = {
            "ENTREPOT_KEYS_TIMEOUT_SECONDS": "2",
            "ENTREPOT_KEYS_VAULT_ADDRESS": bao.address,
            "ENTREPOT_KEYS_VAULT_CA_BUNDLE": str(bao.ca),
            "ENTREPOT_KEYS_VAULT_ROLE_ID": bao.role_id,
            "ENTREPOT_KEYS_VAULT_SECRET_ID_FILE": str(secret),
            "ENTREPOT_KEYS_AWS_KEY_ID": kms.key,
            "ENTREPOT_KEYS_AWS_ENDPOINT_URL": kms.address,
            **CREDENTIALS,
        }
        server.start()
        token = server.token("admin")
        headers = {"Authorization": f"Bearer {token}"}
        filename, body = packages.wheel("demo", "1.0", description="Words")
        assert publish(server, token, "demo", wheel=(filename, body)).status_code == 200
        before = bodies(server)

        def is_served() -> bool:
            url = file_url(server, "dev", "demo", filename)
            return all(requests.get(url, headers=headers, timeout=20).content == body for _ in range(4))

        moved = server.command("keys", "rotate", "--data", str(server.data), "--master", "--to-provider", "vault")
        assert moved.returncode == 0, moved.stderr
        assert 'set keys.provider = "vault"' in moved.stdout
        assert masters(server) == {"entrepot v1"}
        assert server.stop() == 0
        server.environment["ENTREPOT_KEYS_PROVIDER"] = "vault"
        (server.data / "keys" / "master-keys.json").unlink()  # nothing needs it any more
        server.start()
        assert is_served()
        assert bodies(server) == before

        _rotated_by_the_worker(server, headers)
        assert is_served()

        # What is unwrapped serves and takes uploads while the provider is away; a start says that it is.
        bao.freeze()
        assert is_served()
        assert publish(server, token, "meanwhile").status_code == 200
        bao.thaw()
        bao.stop()
        assert server.stop() == 0
        refused = server.command("serve", "--data", str(server.data))
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert bao.address in line
        assert bao.secret_id not in line + server.log_text()

        bao.start()
        moved = server.command(
            "keys", "rotate", "--data", str(server.data), "--master", environment={"ENTREPOT_KEYS_PROVIDER": "aws-kms"}
        )
        assert moved.returncode == 0, moved.stderr
        assert masters(server) == {kms.key}
        bao.stop()
        server.environment["ENTREPOT_KEYS_PROVIDER"] = "aws-kms"
        server.start()
        assert is_served()
        assert before.items() <= bodies(server).items()
    finally:
        server.kill()
        bao.stop()
        kms.stop()


def _rotated_by_the_worker(server: Server, headers: dict[str, str]) -> None:
    url = f"{server.url}/api/v1/domains/default/keys"
    (old,) = requests.get(url, headers=headers, timeout=20).json()["keys"]
    assert (old["state"], old["blobs"] > 0, old["fields"]) == ("current", True, 1)
    asked = requests.post(f"{url}/rotate", headers=headers, timeout=20)
    assert asked.status_code == 202
    assert asked.json()["rotation"]["state"] in {"queued", "running"}
    deadline = time.monotonic() + 90
    while True:
        shown = requests.get(url, headers=headers, timeout=20).json()
        if shown["rotation"]["state"] not in {"queued", "running"} or time.monotonic() > deadline:
            break
        time.sleep(0.3)
    assert (shown["rotation"]["state"], shown["rotation"]["error"], shown["remaining"]) == ("succeeded", None, 0)
    assert [(key["id"] == old["id"], key["state"]) for key in shown["keys"]] == [(True, "retired"), (False, "current")]
    assert shown["keys"][1]["blobs"] == old["blobs"]
    assert requests.get(url.replace("default", "nowhere"), headers=headers, timeout=20).status_code == 404


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PROVIDER": "vault"}, "keys.vault_address"),
        ({"PROVIDER": "aws-kms"}, "keys.aws_key_id"),
        ({"PROVIDER": "paper"}, "keys.provider is one of"),
        ({"VAULT_ADDRESS": "http://vault.example:8200"}, "https://"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    from config.settings import BadSettings, load

    with pytest.raises(BadSettings, match=told):
        load(tmp_path, {f"ENTREPOT_KEYS_{name}": value for name, value in settings.items()})


def test_a_secret_in_the_settings_file_is_refused(tmp_path: Path) -> None:
    from config.settings import BadSettings, load

    (tmp_path / "entrepot.toml").write_text('[keys]\nvault_token = "s.canary"\n')
    with pytest.raises(BadSettings, match="is a secret") as caught:
        load(tmp_path, {})
    assert "s.canary" not in str(caught.value)
    (tmp_path / "entrepot.toml").unlink()
    loaded = load(tmp_path, {"ENTREPOT_KEYS_VAULT_TOKEN": "s.canary"})
    assert loaded.keys.vault_token == "s.canary"
    assert "s.canary" not in repr(loaded)
