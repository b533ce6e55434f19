"""What a document of a deployment group, or a machine that tells its own name and address, could do to routers and checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from hooks.deployments.health import checks
from hooks.deployments.health.alarms import Measured, PollFailed, PrometheusAlarm, read_alarms
from hooks.deployments.health.checks import HttpCheck, TcpCheck, read_checks
from hooks.deployments.health.probing import Prober
from hooks.deployments.traffic import include_file, router, runtime_api
from hooks.deployments.traffic.files import write_whole
from hooks.deployments.traffic.include_file import Entry, Table, render
from hooks.deployments.traffic.router import Member, RoutingError
from registry.errors import InvalidDocument
from registry.upstream import dial
from registry.upstream.guard import AddressPolicy, BlockedAddress
from tests.fakes.upstream import FaultyUpstream
from tests.routing import Subject, haproxy

REFUSED = "its address is none that checks may go to (check_networks of the settings)"
ANYTHING = re.compile(r"(?s).*")
EVERYWHERE = AddressPolicy((ip_network("0.0.0.0/0"), ip_network("::/0")))


@pytest.fixture(scope="module")
def inside() -> Iterator[FaultyUpstream]:
    """A service of the inside, on loopback."""
    with FaultyUpstream() as upstream:
        upstream.serve("/api/v1/query", b'{"status":"success","data":{"resultType":"scalar","result":[1,"5"]}}')
        upstream.serve("/", b"secret")
        yield upstream


def check(kind: str = "HTTP", **more: object) -> HttpCheck | TcpCheck:
    own = {"url": "http://{host}:{port}/"} if kind == "HTTP" else {}
    (found,) = read_checks([{"name": "c", "type": kind, "timeoutSeconds": 1, **own, **more}])
    assert isinstance(found, HttpCheck | TcpCheck)
    return found


def alarm(url: str) -> PrometheusAlarm:
    more = {"type": "PROMETHEUS", "query": "up", "comparisonOperator": "LessThanThreshold", "threshold": 1}
    (found,) = read_alarms({"enabled": True, "alarms": [{"name": "a", "url": url, "timeoutSeconds": 1, **more}]}).alarms
    assert isinstance(found, PrometheusAlarm)
    return found


# --- C1 to C5: where checks and alarms go ----------------------------------------------------------------------------


def test_C1_checks_and_alarms_do_not_reach_the_inside_by_themselves(inside: FaultyUpstream):
    seen, prober = len(inside.requests), Prober(AddressPolicy())
    for kind in ("HTTP", "TCP"):
        for host in ("127.0.0.1", "::ffff:127.0.0.1", "localhost", "::1"):
            answer = prober.check(check(kind), host, inside.port)
            assert (answer.passed, answer.detail) == (False, REFUSED), (kind, host)
    assert prober.poll(alarm(inside.url)) == PollFailed(REFUSED)
    assert len(inside.requests) == seen


def test_C1_where_the_operator_opens_the_network_they_do(inside: FaultyUpstream):
    """Negative control: the same checks, and only the setting is another."""
    prober = Prober(AddressPolicy((ip_network("127.0.0.0/8"),)))
    assert prober.check(check(), "127.0.0.1", inside.port).passed
    assert prober.check(check("TCP"), "127.0.0.1", inside.port).passed
    assert prober.poll(alarm(inside.url)) == Measured((5.0,))


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "metadata.google.internal", "0.0.0.0"]
)
def test_C1_metadata_stays_refused_whatever_is_open(host: str):
    prober = Prober(EVERYWHERE, resolver=lambda _host: ["169.254.169.254"])
    for kind in ("HTTP", "TCP"):
        assert prober.check(check(kind), host, 80).detail == REFUSED
    url = f"http://[{host}]" if ":" in host else f"http://{host}"
    assert prober.poll(alarm(url)) == PollFailed(REFUSED)


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::ffff:127.0.0.1"]])
def test_C2_a_name_that_turns_inwards_is_not_followed(inside: FaultyUpstream, answer: list[str]):
    seen, prober = len(inside.requests), Prober(AddressPolicy(), resolver=lambda _host: answer)
    assert prober.check(check(), "app.example", inside.port).detail == REFUSED
    assert prober.check(check("TCP"), "app.example", inside.port).detail == REFUSED
    assert prober.poll(alarm(f"http://app.example:{inside.port}")) == PollFailed(REFUSED)
    assert len(inside.requests) == seen


def test_C2_without_the_check_of_addresses_it_would_be(inside: FaultyUpstream, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dial.Dialer, "_check", lambda *_: None)
    prober = Prober(AddressPolicy(), resolver=lambda _host: ["127.0.0.1"])
    assert prober.check(check(), "app.example", inside.port).passed
    assert prober.poll(alarm(f"http://app.example:{inside.port}")) == Measured((5.0,))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "FILE:/x", "gopher://x/", "http:/x", " http://x/", "http://u@x/"]
)
def test_C3_other_schemes_are_refused_when_they_are_read(url: str):
    for read, value in (
        (read_checks, [{"name": "c", "type": "HTTP", "url": url}]),
        (read_alarms, {"enabled": True, "alarms": [{"name": "a", "type": "PROMETHEUS", "url": url}]}),
    ):
        with pytest.raises(InvalidDocument, match="url cannot be asked"):
            read(value)


def test_C5_nothing_is_followed(inside: FaultyUpstream):
    prober = Prober(AddressPolicy((ip_network("127.0.0.0/8"),)))
    for path in ("/", "/api/v1/query"):
        with FaultyUpstream() as outside:
            outside.serve(path, status=302, headers={"Location": inside.url + path})
            seen = len(inside.requests)
            answer = prober.check(check(url="http://{host}:{port}" + path), "127.0.0.1", outside.port)
            assert answer.detail == "HTTP 302"
            assert isinstance(prober.poll(alarm(outside.url)), PollFailed)
            assert len(inside.requests) == seen


HOSTS = ["evil/?", "127.0.0.1/x?", "u@10.0.0.1", "10.0.0.1\r\nX: y", "a b", "", "{port}", "#", "\\x"]


@pytest.mark.parametrize("host", HOSTS)
def test_I8_an_address_that_a_machine_tells_is_a_host_and_nothing_else(inside: FaultyUpstream, host: str):
    seen, prober = len(inside.requests), Prober(EVERYWHERE)
    for kind in ("HTTP", "TCP"):
        assert prober.check(check(kind), host, inside.port).detail == REFUSED
    assert len(inside.requests) == seen


def test_I8_without_that_another_page_would_be_asked(monkeypatch: pytest.MonkeyPatch):
    """Negative control."""
    asked = check(url="http://{host}:{port}/healthz")
    assert isinstance(asked, HttpCheck)
    with pytest.raises(BlockedAddress):
        asked.url_for("app.example/admin?", 8080)
    monkeypatch.setattr(checks, "_HOST", ANYTHING)
    assert str(asked.url_for("app.example/admin?", 8080)) == "http://app.example/admin?:8080/healthz"


# --- I8: routers -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with haproxy(tmp_path_factory.mktemp("haproxy"), slots="server a 127.0.0.1:9") as subject:
        yield subject


ATTACKS = ["blue;set server blue/a state maint", "blue\nset server blue/a state maint", "blue state maint", "-", "",
           "blue\\", 'blue"', "blue/a", "blue#", "b\u00e4", "x" * 64, "blue\r", "blue\x00"]  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_I8_a_name_is_no_command_for_haproxy(running: Subject, name: str):
    said = running.router
    for call in (
        lambda: said.members(name),
        lambda: said.drain(name, "a"),
        lambda: said.drain("blue", name),
        lambda: said.is_drained("blue", name),
        lambda: said.deregister("blue", name),
        lambda: said.healthy("blue", name),
        lambda: said.set_weights("blue", {name: 1}),
        lambda: said.shift("web", {name: 100, "green": 0}),
        lambda: said.shares(name),
        lambda: said.register(name, Member("b", "127.0.0.1:9")),
        lambda: said.register("blue", Member(name, "127.0.0.1:9")),
    ):
        with pytest.raises(RoutingError) as caught:
            call()
        assert not caught.value.may_pass
    assert [(member.name, member.is_drained) for member in said.members("blue")] == [("a", False)]


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:9 backup", "127.0.0.1:9;show info", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:9\n",
     "unix@/run/x:9", "localhost:9", "fd@3:1", "[::1%lo]:9", "[127.0.0.1:9", "1.2.3:9", "127.0.0.1:9 weight=9"],
)  # fmt: skip
def test_I8_an_address_is_an_ip_address_and_a_port(address: str):
    with pytest.raises(RoutingError, match="is not an IP address and a port"):
        Member("a", address)


def test_I8_without_the_checks_a_name_would_be_a_command(running: Subject, monkeypatch: pytest.MonkeyPatch):
    """Negative control: the same name, and HAProxy does what it says."""
    with monkeypatch.context() as patched:
        patched.setattr(router, "_NAME", ANYTHING)
        patched.setattr(runtime_api, "_WORD", ANYTHING)
        running.router.members("blue;set server blue/a state drain")
    assert [(member.name, member.is_drained) for member in running.router.members("blue")] == [("a", True)]
    running.router.register("blue", Member("a", "127.0.0.1:9"))


def test_I8_a_name_is_no_directive_for_nginx(monkeypatch: pytest.MonkeyPatch):
    name = "a\n} server { listen 80; root /; } upstream x {\n#"
    with pytest.raises(RoutingError):
        Member(name, "127.0.0.1:9")
    text = render(Table({"blue": {"a": Entry("127.0.0.1:9")}}))
    assert include_file.parse(text).pools["blue"]["a"].address == "127.0.0.1:9"
    with monkeypatch.context() as patched:  # the control
        patched.setattr(router, "_NAME", ANYTHING)
        assert "listen 80" in render(Table({"blue": {Member(name, "127.0.0.1:9").name: Entry("127.0.0.1:9")}}))


def test_I8_a_file_is_written_beside_links_and_not_through_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    victim, file = tmp_path / "victim", tmp_path / "file"
    victim.write_text("as it was")
    monkeypatch.setattr("os.getpid", lambda: 7)
    (tmp_path / "file.7.new").symlink_to(victim)
    file.symlink_to(victim)
    write_whole(file, "new")
    assert (victim.read_text(), file.read_text(), file.is_symlink()) == ("as it was", "new", False)
