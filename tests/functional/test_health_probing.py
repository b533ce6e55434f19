"""Health checks and alarms against real servers: what passes, what does not, and what is said of it."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hooks.deployments.health.alarms import Measured, PollFailed, PrometheusAlarm, read_alarms
from hooks.deployments.health.checks import HttpCheck, TcpCheck, read_checks
from hooks.deployments.health.probing import MOST_BODY_BYTES, Prober
from registry.upstream.guard import AddressPolicy
from tests.fakes.upstream import Fault, FaultyUpstream
from tests.harness.key_services import certificate
from tests.routing import free_port, until

LOOPBACK = AddressPolicy((ip_network("127.0.0.0/8"),))


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as upstream:
        yield upstream


@pytest.fixture
def prober() -> Prober:
    return Prober(LOOPBACK)


def http(path: str, **more: object) -> HttpCheck:
    (check,) = read_checks(
        [{"name": "c", "type": "HTTP", "url": "http://{host}:{port}" + path, "timeoutSeconds": 1, **more}]
    )
    assert isinstance(check, HttpCheck)
    return check


def test_statuses_and_bodies(server: FaultyUpstream, prober: Prober):
    server.serve("/ok", "état: prêt\n".encode())
    server.serve("/down", b"down", status=503)
    server.serve("/moved", b"", status=302, headers={"Location": "/ok"})
    server.serve("/large", b"x" * MOST_BODY_BYTES + b"end")
    told = {
        ("/ok",): (True, "HTTP 200"),
        ("/down",): (False, "HTTP 503"),
        ("/down", "500-599"): (True, "HTTP 503"),
        ("/moved",): (False, "HTTP 302"),
        ("/moved", "200,302"): (True, "HTTP 302"),
        ("/none", "404"): (True, "HTTP 404"),
    }
    for (path, *codes), expected in told.items():
        more = {"matcher": {"httpCode": codes[0]}} if codes else {}
        answer = prober.check(http(path, **more), "127.0.0.1", server.port)
        assert (answer.passed, answer.detail) == expected, path
    assert "/ok" not in [seen.path for seen in server.requests[-3:]]  # nothing was followed
    assert prober.check(http("/ok", bodyContains="prêt"), "127.0.0.1", server.port).passed
    lacking = prober.check(http("/ok", bodyContains="ready"), "127.0.0.1", server.port)
    assert (lacking.passed, lacking.detail) == (False, "HTTP 200, and the body does not contain 'ready'")
    assert not prober.check(http("/large", bodyContains="end"), "127.0.0.1", server.port).passed


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.SILENCE, "no answer in time"),
        (Fault.SLOW_HEAD, "no answer in time"),
        (Fault.RESET_START, "broken off"),
        (Fault.NONSENSE, "not HTTP"),
        (Fault.HUGE_HEAD, "not HTTP"),
    ],
)
def test_a_target_that_answers_badly_fails_in_time(server: FaultyUpstream, prober: Prober, fault: Fault, words: str):
    server.serve("/odd", b"ok" * 100, fault=fault, pace_seconds=0.2)
    began = time.monotonic()
    answer = prober.check(http("/odd"), "127.0.0.1", server.port)
    assert not answer.passed
    assert words in answer.detail
    assert time.monotonic() - began < 10


def test_a_body_that_drips_does_not_hold_a_check_up(server: FaultyUpstream, prober: Prober):
    server.serve("/drip", b"ok" * 100, fault=Fault.SLOW_BODY, pace_seconds=0.2)
    assert (
        prober.check(http("/drip", bodyContains="okokokokok"), "127.0.0.1", server.port).detail == "no answer in time"
    )


def test_tcp(server: FaultyUpstream, prober: Prober):
    (check,) = read_checks([{"name": "t", "type": "TCP", "timeoutSeconds": 1}])
    assert isinstance(check, TcpCheck)
    answer = prober.check(check, "127.0.0.1", server.port)
    assert (answer.passed, answer.detail) == (True, "connected")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = prober.check(check, "127.0.0.1", closed.getsockname()[1])
    assert (answer.passed, answer.detail) == (False, "the connection was refused")
    unknown = Prober(LOOPBACK, resolver=lambda _host: (_ for _ in ()).throw(socket.gaierror("no such name")))
    assert unknown.check(check, "nowhere.example", 80).detail == "the host cannot be reached"
    assert "no port" not in prober.check(check, "127.0.0.1", None).detail  # a document's fault is no address's
    assert not prober.check(check, "127.0.0.1", None).passed


def test_certificates_of_the_operators_own_authority(tmp_path: Path):
    own, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own, key)
    with FaultyUpstream(tls=context) as secure:
        secure.serve("/ok", b"ok")
        asked = http("/ok", url="https://{host}:{port}/ok")
        assert "not trusted" in Prober(LOOPBACK).check(asked, "127.0.0.1", secure.port).detail
        assert Prober(LOOPBACK, ca_bundle=str(own)).check(asked, "127.0.0.1", secure.port).passed


# --- Prometheus ------------------------------------------------------------------------------------------------------


def alarm(url: str, query: str = 'sum(rate(errors{job="a"}[1m])) > 0') -> PrometheusAlarm:
    (found,) = read_alarms(
        {
            "enabled": True,
            "alarms": [
                {
                    "name": "errors",
                    "type": "PROMETHEUS",
                    "url": url,
                    "query": query,
                    "comparisonOperator": "GreaterThanThreshold",
                    "threshold": 1,
                    "timeoutSeconds": 1,
                }
            ],
        }
    ).alarms
    assert isinstance(found, PrometheusAlarm)
    return found


def vector(*values: str) -> bytes:
    result = [{"metric": {"n": str(number)}, "value": [1.5, value]} for number, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()


def scalar(value: str) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": "scalar", "result": [1.5, value]}}).encode()


ANSWERS = {
    vector("0.25", "+Inf"): Measured((0.25, float("inf"))),
    vector(): Measured(()),
    vector("NaN"): Measured(()),
    scalar("3"): Measured((3.0,)),
    b'{"status":"error","errorType":"bad_data","error":"parse error at char 1"}': "parse error at char 1",
    b'{"status":"success","data":{"resultType":"matrix","result":[]}}': "neither a vector nor a scalar",
    b'{"status":"success","data":{"resultType":"vector","result":[{"value":[1]}]}}': "neither a vector nor a scalar",
    b'{"status":"success"}': "neither a vector nor a scalar",
    b'{"status":"success","data":[]}': "neither a vector nor a scalar",
    vector("many"): "neither a vector nor a scalar",
    b"[]": "not Prometheus'",
    b"<html>": "not Prometheus'",
    b"[" * 100_000: "not Prometheus'",
}


@pytest.mark.parametrize("body", ANSWERS, ids=lambda body: body[:40].decode())
def test_what_prometheus_answers(server: FaultyUpstream, prober: Prober, body: bytes):
    server.serve("/prom/api/v1/query", body, content_type="application/json")
    found, expected = prober.poll(alarm(server.url + "/prom/")), ANSWERS[body]
    if isinstance(expected, Measured):
        assert found == expected
    else:
        assert isinstance(found, PollFailed)
        assert expected in found.reason
    asked = urlsplit(server.requests[-1].path)
    assert parse_qs(asked.query) == {"query": ['sum(rate(errors{job="a"}[1m])) > 0']}


def test_what_is_not_an_answer_is_a_failed_poll(server: FaultyUpstream, prober: Prober):
    for more, words in (
        ({"status": 503}, "HTTP 503"),
        ({"status": 302, "headers": {"Location": server.url + "/good"}}, "HTTP 302"),
        ({"fault": Fault.SILENCE}, "no answer in time"),
        ({"fault": Fault.CUT}, "not HTTP"),
    ):
        server.serve("/api/v1/query", vector("5"), content_type="application/json", **more)
        found = prober.poll(alarm(server.url))
        assert isinstance(found, PollFailed), more
        assert words in found.reason
    assert "/good" not in [seen.path for seen in server.requests]


@pytest.mark.long
def test_a_real_prometheus(tmp_path: Path, prober: Prober):
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed (the system package prometheus)")
    port = free_port()
    (tmp_path / "prometheus.yml").write_text(
        f"scrape_configs: [{{job_name: own, scrape_interval: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
    )
    command = [program, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: prober.poll(alarm(url, "up")) == Measured((1.0,)), seconds=60)
        assert prober.poll(alarm(url, "scalar(vector(7))")) == Measured((7.0,))
        assert prober.poll(alarm(url, "no_such_metric")) == Measured(())
        assert prober.poll(alarm(url, "vector(0) / 0")) == Measured(())
        bad, matrix = prober.poll(alarm(url, "sum(")), prober.poll(alarm(url, "up[1m]"))
    finally:
        process.terminate()
        process.wait(30)
    assert isinstance(bad, PollFailed)
    assert "HTTP 400: invalid parameter" in bad.reason
    assert isinstance(matrix, PollFailed)
    assert "neither a vector nor a scalar" in matrix.reason
