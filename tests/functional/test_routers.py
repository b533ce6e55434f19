"""What HAProxy and nginx have of their own beyond the routers' contract: slots, state files, include files, crashes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooks.deployments.traffic import nginx_process
from hooks.deployments.traffic.nginx_process import NginxProcess
from hooks.deployments.traffic.router import Member, RoutingError
from hooks.deployments.traffic.routers.haproxy import FIRST_ID
from hooks.deployments.traffic.routers.nginx import NginxRouter
from hooks.deployments.traffic.runtime_api import RuntimeApi, servers_of
from tests.routing import NGINX, Subject, Target, ask, haproxy, nginx, until


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    made = Target("a")
    yield made
    made.close()


# --- HAProxy -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    slots = "server s1 127.0.0.1:9 disabled"
    folder = tmp_path_factory.mktemp("slots")
    with haproxy(folder, slots=slots, keeps_state=True, server_options=("check", "inter", "50")) as subject:
        yield subject


def servers(subject: Subject, pool: str) -> dict[str, int]:
    api = RuntimeApi(str(subject.folder / "admin.sock"))
    return {server.name: server.id for server in servers_of(api.ask("show", "servers", "state", pool), pool)}


def test_a_slot_of_the_configuration_is_taken_and_given_back(with_slots: Subject, target: Target):
    router = with_slots.router
    assert router.members("blue") == ()
    router.register("blue", Member("s1", target.member.address))
    assert [member.address for member in router.members("blue")] == [target.member.address]
    assert ask(with_slots.port) == "a"
    router.deregister("blue", "s1")
    assert router.members("blue") == ()
    assert servers(with_slots, "blue")["s1"] < FIRST_ID  # it is there for the next one


def test_what_was_added_is_deleted_again_at_once_or_at_the_next_change(with_slots: Subject, target: Target):
    router = with_slots.router
    slow = Target("slow")
    router.register("green", Member("x", slow.member.address))
    assert servers(with_slots, "green")["x"] >= FIRST_ID
    router.shift("web", {"blue": 0, "green": 100})
    asking = threading.Thread(target=ask, args=(with_slots.port, "/slow"))
    asking.start()
    assert slow.slow.acquire(timeout=10)
    router.deregister("green", "x")
    assert router.members("green") == ()
    assert "x" in servers(with_slots, "green")  # a request still runs there
    slow.let_go()
    asking.join()
    slow.close()

    def is_gone() -> bool:
        router.deregister("green", "x")
        return "x" not in servers(with_slots, "green")

    until(is_gone)


def test_the_routers_own_check_is_told(with_slots: Subject, target: Target):
    router = with_slots.router
    router.register("green", Member("good", target.member.address))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's meanwhile
        router.register("green", Member("bad", f"127.0.0.1:{closed.getsockname()[1]}"))
        until(lambda: router.healthy("green", "good") is True)
        until(lambda: router.healthy("green", "bad") is False)
    router.register("blue", Member("s1", target.member.address))
    assert router.healthy("blue", "s1") is None  # its slot has no check


def test_with_a_state_file_a_drained_slot_stays_drained_over_a_restart(with_slots: Subject, target: Target):
    router = with_slots.router
    router.register("blue", Member("s1", target.member.address))
    router.set_weights("blue", {"s1": 5})
    router.drain("blue", "s1")
    with_slots.restart()
    (member,) = router.members("blue")
    assert (member.is_drained, member.address, member.weight) == (True, target.member.address, 5)


def test_a_pool_that_is_balanced_by_nothing_that_takes_weights_is_refused(tmp_path: Path, target: Target):
    with haproxy(tmp_path, slots="balance source\n    hash-type map-based\n    server s 127.0.0.1:9") as subject:
        with pytest.raises(RoutingError, match="static LB algorithm") as caught:
            subject.router.set_weights("blue", {"s": 7})
        assert not caught.value.may_pass
        with pytest.raises(RoutingError, match="does not take member x into pool blue"):
            subject.router.register("blue", Member("x", target.member.address))
        subject.router.drain("blue", "s")
        assert subject.router.is_drained("blue", "s")


ANSWERS = {
    "": "broke off",
    "1\n# be_id be_na": "broke off",
    "Permission denied\n\n": "level admin",
    "Unknown command, but maybe …\n": "2.6 or newer",
    "2\n# be_id be_name\n": "not understood",
    "1\n# be_id be_name\n3 blue 4\n": "not understood",
    "1\n# be_id srv_id\n3 x\n": "not understood",
    "<html>\n": "not understood",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_does_not_answer_as_haproxy_is_an_error_in_words(tmp_path: Path, answer: str):
    from hooks.deployments.traffic.routers.haproxy import HaproxyRouter

    path = str(tmp_path / "odd.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            line, _ = listener.accept()
            with line:
                line.recv(1000)
                line.sendall(answer.encode())

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(RoutingError, match=ANSWERS[answer]) as caught:
            HaproxyRouter(RuntimeApi(path), listeners={}).members("blue")
        serving.join()
    assert caught.value.may_pass is (ANSWERS[answer] == "broke off")


def test_a_router_that_says_nothing_is_given_up(tmp_path: Path):
    path = str(tmp_path / "silent.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with pytest.raises(RoutingError, match="cannot be reached") as caught:
            RuntimeApi(path, seconds=0.2).ask("show", "info")
    assert caught.value.may_pass


def test_over_tcp(tmp_path: Path, target: Target):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with haproxy(tmp_path) as subject:
        text = (tmp_path / "haproxy.cfg").read_text()
        admin = f"stats socket ipv4@127.0.0.1:{port} level admin"
        (tmp_path / "haproxy.cfg").write_text(text.replace("\nglobal\n", f"\nglobal\n    {admin}\n"))
        subject.restart()
        over_tcp = RuntimeApi(("127.0.0.1", port))
        assert over_tcp.ask("show", "info").startswith("Name: HAProxy")


def test_a_map_that_cannot_be_written_is_told_and_nothing_is_shifted(with_slots: Subject, target: Target):
    router, lock = with_slots.router, with_slots.folder / "web.map.lock"
    router.register("blue", Member("s1", target.member.address))
    router.register("green", target.member)
    before = dict(router.shares("web"))
    lock.unlink(missing_ok=True)
    lock.mkdir()
    try:
        with pytest.raises(RoutingError, match=r"web\.map cannot be written"):
            router.shift("web", {"blue": 97, "green": 3})
        assert router.shares("web") == before
    finally:
        lock.rmdir()


# --- nginx -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine_x(tmp_path_factory: pytest.TempPathFactory, target: Target) -> Iterator[Subject]:
    with nginx(tmp_path_factory.mktemp("nginx")) as subject:
        subject.router.register("blue", target.member)
        yield subject


def test_a_change_that_nginx_does_not_take_is_undone(engine_x: Subject, target: Target):
    main = engine_x.folder / "nginx.conf"
    whole, file = main.read_text(), engine_x.folder / "entrepot.conf"
    before = file.read_text()
    main.write_text(whole + "\nnonsense;\n")
    try:
        with pytest.raises(RoutingError, match='unknown directive "nonsense"') as caught:
            engine_x.router.drain("blue", "a")
        assert not caught.value.may_pass
        assert file.read_text() == before
        assert not engine_x.router.is_drained("blue", "a")
    finally:
        main.write_text(whole)
    assert ask(engine_x.port) == "a"


def test_what_a_crash_left_before_the_reload_is_taken_up_by_the_next_call(
    engine_x: Subject, target: Target, monkeypatch: pytest.MonkeyPatch
):
    class Crash(BaseException):
        """The worker is killed here."""

    def crash(_self: NginxProcess) -> None:
        raise Crash

    router = engine_x.router
    router.register("blue", Member("gone", "127.0.0.1:9"))
    router.set_weights("blue", {"gone": 0})
    with monkeypatch.context() as patched:
        patched.setattr(NginxProcess, "reload", crash)
        with pytest.raises(Crash):
            router.deregister("blue", "a")
    # nginx has not heard of it yet, and nobody says that it has.
    assert ask(engine_x.port) == "a"
    assert not router.is_drained("blue", "a")
    router.deregister("blue", "a")
    assert router.is_drained("blue", "a")
    with pytest.raises(ConnectionError, match="502"):
        ask(engine_x.port)
    router.register("blue", target.member)
    router.deregister("blue", "gone")
    assert ask(engine_x.port) == "a"


def test_a_file_that_somebody_else_wrote_in_is_left_alone(engine_x: Subject):
    file = engine_x.folder / "entrepot.conf"
    text = file.read_text()
    for other in (
        text + "# mine\n",
        "upstream blue { server 127.0.0.1:1; }\n",
        text.replace('"weight": 1', '"weight": 2'),
    ):
        file.write_text(other)
        with pytest.raises(RoutingError, match="not as Entrepot wrote it"):
            engine_x.router.drain("blue", "a")
        assert file.read_text() == other
    file.write_text(text)
    assert [member.name for member in engine_x.router.members("blue")] == ["a"]


def test_settings_that_know_more_pools_than_the_file_are_brought_into_it(engine_x: Subject):
    text = (engine_x.folder / "entrepot.conf").read_text()
    process = NginxProcess(
        pid_file=str(engine_x.folder / "nginx.pid"), test=[NGINX, "-t", "-c", str(engine_x.folder / "nginx.conf")]
    )
    wider = NginxRouter(
        process,
        file=str(engine_x.folder / "entrepot.conf"),
        pools=["blue", "green", "red"],
        listeners={"web": ["blue", "green"], "inner-web": ["red"]},
    )
    wider.prepare()
    assert [member.name for member in wider.members("blue")] == ["a"]
    assert wider.shares("inner-web") == {"red": 100}
    assert "$entrepot_inner_web" in (engine_x.folder / "entrepot.conf").read_text()
    engine_x.router.prepare()
    assert (engine_x.folder / "entrepot.conf").read_text() == text


def test_no_process_but_nginx_is_sent_a_signal(tmp_path: Path):
    pid_file = tmp_path / "pid"
    process = NginxProcess(pid_file=str(pid_file), test=["true"])
    for text in (str(os.getpid()), "1", "", "no", "99999999999", "-1", "0"):
        pid_file.write_text(text)
        with pytest.raises(RoutingError, match="nginx does not run") as caught:
            process.reload()
        assert caught.value.may_pass


def test_a_reload_command_that_fails_and_one_that_is_not_there(engine_x: Subject):
    pid_file = str(engine_x.folder / "nginx.pid")
    for command, words, passes in (
        (["sh", "-c", "echo not today >&2; exit 3"], "not today", True),
        (["/no/such/program"], "cannot be run", True),
    ):
        with pytest.raises(RoutingError, match=words) as caught:
            NginxProcess(pid_file=pid_file, test=["true"], reload=command).reload()
        assert caught.value.may_pass is passes
    master = Path(pid_file).read_text().strip()
    NginxProcess(pid_file=pid_file, test=["true"], reload=["kill", "-HUP", master]).reload()
    assert ask(engine_x.port) == "a"


def test_workers_are_found_without_the_kernels_list_of_children_as_well(engine_x: Subject):
    master = int((engine_x.folder / "nginx.pid").read_text())
    listed = nginx_process._children(master)
    assert len(listed) >= 2
    assert sorted(nginx_process._children_by_looking(master)) == sorted(listed)
