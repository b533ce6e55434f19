"""Routers in the settings: every fault is told, nothing is opened, and the example can be used."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from config import checking, routers, settings
from hooks.deployments.traffic.router import Member
from hooks.deployments.traffic.routers.haproxy import HaproxyRouter
from hooks.deployments.traffic.routers.nginx import NginxRouter
from hooks.deployments.traffic.routers.record import RecordRouter
from registry.upstream.guard import BlockedAddress

EXAMPLE = Path(settings.__file__).parent / "entrepot.example.toml"
HAPROXY = '[deployments.routers.edge]\ntype = "haproxy"\nsocket = "/run/admin.sock"\n'
NGINX = '[deployments.routers.edge]\ntype = "nginx"\nfile = "/etc/nginx/e.conf"\npools = ["blue", "green"]\n'


def load(folder: Path, text: str) -> settings.Settings:
    (folder / "entrepot.toml").write_text(text)
    return settings.load(folder, {})


def test_the_example_without_its_comments_can_be_used(tmp_path: Path):
    commented = re.search(r"# \[deployments\.routers\.edge\].*?(?=\n\n)", EXAMPLE.read_text(), re.DOTALL)
    assert commented is not None
    plain = re.sub(r"^# ?", "", commented.group(), flags=re.MULTILINE)
    loaded = load(tmp_path, "[deployments]\ncheck_networks = ['10.0.0.0/8']\n" + plain)
    tables = {
        name: {key: str(tmp_path / "f") if key == "file" else value for key, value in table.items()}
        for name, table in loaded.routers.items()
    }
    found = routers.routers(tables)
    assert {name: type(router) for name, router in found.items()} == {
        "edge": HaproxyRouter,
        "inner": NginxRouter,
        "trial": RecordRouter,
    }
    assert set(routers.TYPES) == {table["type"] for table in tables.values()}


def test_a_router_is_found_by_its_name_and_works(tmp_path: Path):
    text = f'[deployments.routers.trial]\ntype = "record"\nfile = "{tmp_path}/r.json"\npools = ["blue"]\n'
    (router,) = routers.routers(load(tmp_path, text).routers).values()
    router.register("blue", Member("a", "10.0.0.4:80"))
    assert [member.name for member in router.members("blue")] == ["a"]
    assert load(tmp_path, "").routers == {}


def test_nginx_finds_its_file_before_the_first_deployment(tmp_path: Path):
    file = tmp_path / "e.conf"
    text = NGINX.replace("/etc/nginx/e.conf", str(file)) + "listeners = {web = ['blue', 'green']}\n"
    loaded = load(tmp_path, text)
    assert not file.exists()  # reading the settings writes nothing
    routers.prepare(routers.routers(loaded.routers))
    assert "split_clients" in file.read_text()


def test_a_file_that_cannot_be_written_is_told_and_does_not_stop_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    text = NGINX.replace("/etc/nginx/e.conf", str(tmp_path / "no/such/e.conf"))
    routers.prepare(routers.routers(load(tmp_path, text).routers))
    assert "the router edge is not ready" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("deployments = 3", "deployments is a section"),
        ("[deployments]\nrouters = 3", "a section for each router"),
        ("[deployments.routers]\nedge = 'haproxy'", "a section for each router"),
        ("[deployments.routers.Edge]\ntype = 'record'", "a name has"),
        ("[deployments.routers.edge]\nsocket = '/x'", "type is one of haproxy, nginx, record"),
        ("[deployments.routers.edge]\ntype = 'traefik'", "type is one of"),
        ("[deployments.routers.edge]\ntype = ['nginx']", "type is one of"),
        ("[deployments.routers.edge]\ntype = 'haproxy'", "edge.socket is missing"),
        ("[deployments.routers.edge]\ntype = 'haproxy'\nsocket = 'somewhere'", "socket: a path, or address"),
        (HAPROXY + "colour = 'red'", "colour is not a setting"),
        (HAPROXY + "writes_maps = 'yes'", "writes_maps: 'yes' is neither true nor false"),
        (HAPROXY + "state_file = 'state'", "state_file: 'state' is not an absolute path"),
        (HAPROXY + "server_options = ['check; shutdown']", "is not one word"),
        (HAPROXY + "server_options = 'check'", "is not a list of texts"),
        (HAPROXY + "listeners = {web = '/a b'}", "listeners.web: '/a b' is not the file of a map"),
        (HAPROXY + "listeners = {web = 'virt@web'}", "listeners.web: 'virt@web' is not an absolute path"),
        (HAPROXY + "listeners = {'w;b' = '/a'}", "listener 'w;b'"),
        (HAPROXY + "listeners = 3", "listeners is a table"),
        (NGINX.replace('"/etc/nginx/e.conf"', '"e.conf"'), "file: 'e.conf' is not an absolute path"),
        (NGINX.replace('["blue", "green"]', "[]"), "pools is empty"),
        (NGINX.replace('"green"', '"gr een"'), "pool 'gr een'"),
        (NGINX + "listeners = {web = ['red']}", "not a list of this router's pools"),
        (NGINX + "listeners = {web = ['blue', 'blue']}", "not a list of this router's pools"),
        (NGINX + "test = []", "test is empty"),
        (NGINX + "reload = 'systemctl reload nginx'", "reload: .* is not a list of texts"),
    ],
)
def test_what_cannot_be_a_router_is_told(tmp_path: Path, text: str, words: str):
    with pytest.raises(settings.BadSettings, match=words):
        load(tmp_path, text)


def test_faults_of_several_routers_are_told_at_once(tmp_path: Path):
    with pytest.raises(settings.BadSettings) as caught:
        load(tmp_path, "[deployments.routers.a]\ntype = 'x'\n[deployments.routers.b]\ntype = 'nginx'\n")
    assert len(caught.value.faults) == 2


def test_checks_reach_what_the_settings_open(tmp_path: Path):
    closed = checking.prober(load(tmp_path, ""))
    opened = checking.prober(load(tmp_path, "[deployments]\ncheck_networks = ['10.0.0.0/8']\n"))
    opened._policy.check(ip_address("10.1.2.3"))
    for prober, address in ((closed, "10.1.2.3"), (opened, "192.168.0.1"), (opened, "169.254.169.254")):
        with pytest.raises(BlockedAddress):
            prober._policy.check(ip_address(address))
