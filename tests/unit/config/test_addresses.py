"""Which URLs are this server's own, what it says of itself, and where commands find the running one."""

import socket
from pathlib import Path

import pytest

from config.addresses import announcement, own_addresses, served_at, told
from config.settings import Settings, load


def of(bind: str = "127.0.0.1:8080", public_url: str = "", data: Path = Path("/nowhere")) -> Settings:
    return load(data, {}, server={"bind": bind, "public_url": public_url})


def is_own(url: str, bind: str = "127.0.0.1:8080", public_url: str = "") -> bool:
    return own_addresses(of(bind, public_url))(url)


@pytest.mark.parametrize("bind", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "0.0.0.0:8080", "[::]:8080"])
def test_every_loopback_name_at_the_port_is_ours(bind: str) -> None:
    for host in ("127.0.0.1", "LOCALHOST", "127.9.9.9", "[::1]", "a.localhost", "localhost."):
        assert is_own(f"http://{host}:8080/pypi/default/dev/simple/", bind), host
        assert is_own(f"http://__token__:secret@{host}:8080/", bind), host
        assert not is_own(f"http://{host}:8081/", bind), host
        assert not is_own(f"http://{host}/", bind), host


def test_other_hosts_at_the_port_are_not_ours() -> None:
    for host in ("mirror.invalid", "192.0.2.1", "[2001:db8::1]", "localhost.invalid", "127.0.0.1.invalid"):
        for bind in ("127.0.0.1:8080", "0.0.0.0:8080"):
            assert not is_own(f"http://{host}:8080/", bind), host


def test_a_server_on_one_outer_address_leaves_loopback_to_others() -> None:
    assert is_own("http://192.0.2.7:8080/", "192.0.2.7:8080")
    assert not is_own("http://127.0.0.1:8080/", "192.0.2.7:8080")


def test_a_server_on_all_addresses_has_the_machines_name_and_addresses() -> None:
    name = f"http://{socket.gethostname()}:8080/"
    assert is_own(name, "0.0.0.0:8080")
    assert not is_own(name.replace(":8080", ":8081"), "0.0.0.0:8080")
    assert not is_own(name, "127.0.0.1:8080")
    assert is_own("http://0.0.0.0:8080/", "0.0.0.0:8080")


def test_the_public_url_is_ours_by_host_and_port() -> None:
    outer = "https://Packages.invalid/entrepot"
    assert is_own("https://packages.invalid/pypi/default/dev/simple/", public_url=outer)
    assert is_own("https://packages.invalid:443/", public_url=outer)
    assert not is_own("http://packages.invalid/", public_url=outer)
    assert not is_own("https://packages.invalid:8443/", public_url=outer)


@pytest.mark.parametrize("url", ["", "nonsense", "http://", "http://[::1", "http://h:99999/", "file:///simple/"])
def test_what_is_no_address_is_not_ours(url: str) -> None:
    assert not is_own(url)


@pytest.mark.parametrize(("bind", "host"), [("0.0.0.0:81", "127.0.0.1"), ("[::]:81", "[::1]")])
def test_a_server_on_all_addresses_prints_one_that_can_be_opened(bind: str, host: str) -> None:
    served, sign_in, hint = announcement(of(bind), "secret")
    assert served == f"Entrepot serves http://{host}:81/ from /nowhere"
    assert sign_in.endswith(f" http://{host}:81/setup?code=secret")
    assert "server.public_url" in hint


@pytest.mark.parametrize(
    ("bind", "public_url", "base_url"),
    [
        ("127.0.0.1:8080", "", "http://127.0.0.1:8080"),
        ("[::1]:8080", "", "http://[::1]:8080"),
        ("0.0.0.0:8080", "https://packages.invalid/", "https://packages.invalid"),
    ],
)
def test_who_has_said_the_address_gets_no_hint(bind: str, public_url: str, base_url: str) -> None:
    (line,) = announcement(of(bind, public_url), None)
    assert line == f"Entrepot serves {base_url}/ from /nowhere"


def test_the_running_servers_address_is_found_on_its_data_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    running, command = of("127.0.0.1:1234", data=tmp_path), of(data=tmp_path)
    assert served_at(command) == "http://127.0.0.1:8080"
    with told(running):
        assert served_at(command) == "http://127.0.0.1:1234"
    assert served_at(command) == "http://127.0.0.1:8080"
