"""Health checks and alarms as documents, and what a series of answers comes to."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.deployments.health import alarms, checks
from hooks.deployments.health.alarms import (
    AlarmConfiguration,
    AlarmState,
    Comparison,
    Measured,
    MissingData,
    PollFailed,
    PrometheusAlarm,
    Standing,
    WebhookAlarm,
    after_poll,
    is_firing,
    reason_to_stop,
)
from hooks.deployments.health.checks import CommandCheck, HttpCheck, Pace, TcpCheck, as_json, read_checks
from hooks.deployments.health.judging import Health, Tally, after, altogether, judge
from registry.errors import InvalidDocument
from registry.upstream.guard import BlockedAddress

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HTTP = {"name": "ready", "type": "HTTP", "url": "http://{host}:{port}/healthz"}


def document(text: str):
    return json.loads(text)


def faults(read, value) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        read(value)
    return caught.value.faults


# --- checks ----------------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation():
    http, tcp, command, script = read_checks(document(checks.__doc__.partition("\n\n")[2]))
    assert http == HttpCheck("ready", Pace(5, 3, 2, 3), "http://{host}:{port}/healthz", ((200, 299), (302, 302)), "ok")
    assert tcp == TcpCheck("port", Pace())
    assert command == CommandCheck("queue", Pace(timeout_seconds=10), ("CMD-SHELL", "test -S /run/app.sock"))
    assert script == CommandCheck("smoke", Pace(timeout_seconds=60), location="scripts/smoke.sh", runas="app")
    for check in (http, tcp, command, script):
        assert read_checks([as_json(check)]) == (check,)


def test_a_command_is_a_task_definitions():
    told = {"name": "c", "type": "COMMAND"}
    commands = (["CMD", "true", "-x"], ["CMD-SHELL", "a && b"], ["true", "-x"])
    read = [read_checks([{**told, "command": each}])[0] for each in commands]
    assert [check.argv for check in read] == [("true", "-x"), ("/bin/sh", "-c", "a && b"), ("true", "-x")]
    for wrong in (
        {}, {"command": []}, {"command": "true"}, {"command": [1]}, {"command": ["CMD"]}, {"command": ["CMD-SHELL"]},
        {"command": ["CMD-SHELL", "a", "b"]}, {"command": ["x" * 4001]}, {"command": ["a\0"]},
        {"command": ["true"], "location": "x.sh"}, {"location": "/bin/true"}, {"location": "a/../../b"},
    ):  # fmt: skip
        assert faults(read_checks, [{**told, **wrong}])


def test_what_is_left_out():
    assert read_checks([]) == ()
    assert read_checks([HTTP]) == (HttpCheck("ready", Pace(), HTTP["url"]),)


def test_where_a_target_is_asked():
    (http, tcp, fixed) = read_checks(
        [HTTP, {"name": "t", "type": "TCP"}, {"name": "f", "type": "TCP", "address": "[fd00::9]:5432"}]
    )
    assert str(http.url_for("10.0.0.7", 8080)) == "http://10.0.0.7:8080/healthz"
    assert str(http.url_for("fd00::7", 8080)) == "http://[fd00::7]:8080/healthz"
    assert tcp.address_for("fd00::7", 8080) == ("fd00::7", 8080)
    assert tcp.address_for("app.example", 8080) == ("app.example", 8080)
    assert fixed.address_for("10.0.0.7", None) == ("fd00::9", 5432)
    for check in (http.url_for, tcp.address_for):
        with pytest.raises(BlockedAddress, match="no port"):
            check("10.0.0.7", None)
        with pytest.raises(BlockedAddress):
            check("evil/?@x", 80)


BAD_CHECKS = {
    "no object": (["x"], "healthChecks[0] has to be an object"),
    "no list": ("x", "healthChecks has to be a list"),
    "an object": ({}, "healthChecks has to be a list"),
    "too many": ([HTTP | {"name": f"n{number}"} for number in range(11)], "more than 10"),
    "a name twice": ([HTTP, HTTP], "two have the name ready"),
    "an odd name": ([HTTP | {"name": "a b"}], "healthChecks[0].name has A-Z"),
    "no name": ([{"type": "TCP"}], "healthChecks[0].name is missing"),
    "no type": ([{"name": "a"}], "healthChecks[0].type has to be one of HTTP, TCP, COMMAND"),
    "another type": ([{"name": "a", "type": "PING"}], "has to be one of"),
    "a type that is none": ([{"name": "a", "type": ["HTTP"]}], "has to be one of"),
    "an unknown field": ([HTTP | {"path": "/"}], "healthChecks[0].path is not a field"),
    "a field of another type": ([HTTP | {"location": "x"}], "location is not a field"),
    "no url": ([{"name": "a", "type": "HTTP"}], "url is missing"),
    "another scheme": ([HTTP | {"url": "file:///etc/passwd"}], "url cannot be asked"),
    "a password": ([HTTP | {"url": "http://u:p@{host}/"}], "url cannot be asked"),
    "another placeholder": ([HTTP | {"url": "http://{host}/{secret}"}], "holds {secret}; there are {host} and {port}"),
    "half a placeholder": ([HTTP | {"url": "http://{host/"}], "holds {host"),
    "lines": ([HTTP | {"url": "http://{host}/\r\nX: y"}], "text on one line"),
    "statuses": ([HTTP | {"matcher": {"httpCode": "200-"}}], "matcher.httpCode has to be statuses"),
    "statuses backwards": ([HTTP | {"matcher": {"httpCode": "299-200"}}], "has to be statuses"),
    "grpc": ([HTTP | {"matcher": {"grpcCode": "0"}}], "matcher.grpcCode is not a field"),
    "an interval of none": ([HTTP | {"intervalSeconds": 0}], "intervalSeconds has to be a whole number from 1"),
    "a yes": ([HTTP | {"healthyThresholdCount": True}], "healthyThresholdCount has to be a whole number"),
    "half a second": ([HTTP | {"timeoutSeconds": 0.5}], "timeoutSeconds has to be a whole number"),
    "a port that is none": ([{"name": "a", "type": "TCP", "address": "{host}:web"}], "address cannot be asked"),
    "a path": ([{"name": "a", "type": "TCP", "address": "{host}:80/x"}], "address"),
    "no port": ([{"name": "a", "type": "TCP", "address": "{host}"}], "address has to be a host and a port"),
    "a script elsewhere": ([{"name": "a", "type": "COMMAND", "location": "/bin/sh"}], "location has to be the path"),
    "a script above": ([{"name": "a", "type": "COMMAND", "location": "x/../../y"}], "location has to be the path"),
    "an odd user": ([{"name": "a", "type": "COMMAND", "location": "x", "runas": "-c id"}], "runas has to be"),
}


@pytest.mark.parametrize("what", BAD_CHECKS)
def test_a_check_that_cannot_be_made_is_refused(what: str):
    value, words = BAD_CHECKS[what]
    assert any(words in fault for fault in faults(read_checks, value)), faults(read_checks, value)


def test_all_faults_at_once():
    found = faults(
        read_checks,
        [HTTP | {"url": "x", "intervalSeconds": "often"}, {"name": "a", "type": "COMMAND", "location": "/x", "odd": 1}],
    )
    assert [fault.split(" ")[0] for fault in found] == [
        "healthChecks[0].url",
        "healthChecks[0].intervalSeconds",
        "healthChecks[1].odd",
        "healthChecks[1].location",
    ]


# --- what a series comes to ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "health"),
    [
        ("", Health.INITIAL),
        ("+", Health.INITIAL),
        ("++", Health.HEALTHY),
        ("+-+-+", Health.INITIAL),
        ("---", Health.UNHEALTHY),
        ("++--", Health.HEALTHY),
        ("++---", Health.UNHEALTHY),
        ("++---+", Health.UNHEALTHY),
        ("++---++", Health.HEALTHY),
        ("--+--", Health.INITIAL),
    ],
)
def test_as_many_in_a_row_as_the_check_says(series: str, health: Health):
    assert judge([sign == "+" for sign in series], Pace(healthy_count=2, unhealthy_count=3)).health is health


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_only_a_whole_run_changes_health(series: list[bool], healthy: int, unhealthy: int):
    pace, tally = Pace(healthy_count=healthy, unhealthy_count=unhealthy), Tally()
    for number, passed in enumerate(series, 1):
        before, tally = tally, after(tally, passed=passed, pace=pace)
        run = series[max(0, number - (healthy if passed else unhealthy)) : number]
        is_whole = len(run) == (healthy if passed else unhealthy) and set(run) == {passed}
        assert tally.health is ((Health.HEALTHY if passed else Health.UNHEALTHY) if is_whole else before.health)


def test_one_check_that_fails_decides():
    assert altogether([]) is Health.HEALTHY
    assert altogether([Health.HEALTHY, Health.HEALTHY]) is Health.HEALTHY
    assert altogether([Health.HEALTHY, Health.INITIAL]) is Health.INITIAL
    assert altogether([Health.INITIAL, Health.UNHEALTHY, Health.HEALTHY]) is Health.UNHEALTHY


# --- alarms ----------------------------------------------------------------------------------------------------------

ERRORS = {
    "name": "errors",
    "type": "PROMETHEUS",
    "url": "https://prometheus.example",
    "query": "sum(rate(errors[1m]))",
    "comparisonOperator": "GreaterThanThreshold",
    "threshold": 0.5,
}


def test_the_example_of_the_documentation_and_codedeploys_own():
    found = alarms.read_alarms(document(alarms.__doc__.split("\n\n")[1]))
    assert found == AlarmConfiguration(
        enabled=True,
        ignore_poll_failure=False,
        alarms=(
            PrometheusAlarm(
                "errors",
                "https://prometheus.example",
                "sum(rate(errors[1m]))",
                Comparison.ABOVE,
                0.5,
                for_seconds=60,
            ),
            WebhookAlarm("pager"),
        ),
    )
    theirs = {"enabled": True, "ignorePollAlarmFailure": True, "alarms": [{"name": "high-latency"}]}
    assert alarms.read_alarms(theirs) == AlarmConfiguration(True, True, (WebhookAlarm("high-latency"),))
    assert alarms.read_alarms({}) == AlarmConfiguration()


BAD_ALARMS = {
    "no object": ([], "alarmConfiguration has to be an object"),
    "an unknown field": ({"alarm": []}, "alarmConfiguration.alarm is not a field"),
    "nobody says whether it counts": ({"alarms": [{"name": "a"}]}, "enabled is missing"),
    "a word": ({"enabled": "true"}, "enabled has to be true or false"),
    "a name twice": ({"enabled": True, "alarms": [{"name": "a"}, {"name": "a"}]}, "two have the name a"),
    "another type": ({"enabled": True, "alarms": [{"name": "a", "type": "CLOUDWATCH"}]}, "one of PROMETHEUS, WEBHOOK"),
    "a webhook with a query": ({"enabled": True, "alarms": [{"name": "a", "query": "x"}]}, "query is not a field"),
    "placeholders": ({"enabled": True, "alarms": [ERRORS | {"url": "http://{host}/"}]}, "nothing to be filled in"),
    "a query in the url": ({"enabled": True, "alarms": [ERRORS | {"url": "http://p/?a=b"}]}, "neither query nor"),
    "no threshold": ({"enabled": True, "alarms": [{**ERRORS, "threshold": None}]}, "threshold has to be a number"),
    "an endless threshold": ({"enabled": True, "alarms": [ERRORS | {"threshold": float("inf")}]}, "has to be a number"),
    "a comparison": ({"enabled": True, "alarms": [ERRORS | {"comparisonOperator": ">"}]}, "GreaterThanThreshold"),
    "missing data": ({"enabled": True, "alarms": [ERRORS | {"treatMissingData": "ok"}]}, "notBreaching"),
}


@pytest.mark.parametrize("what", BAD_ALARMS)
def test_an_alarm_that_cannot_be_watched_is_refused(what: str):
    value, words = BAD_ALARMS[what]
    assert any(words in fault for fault in faults(alarms.read_alarms, value))


def alarm(**more: object) -> PrometheusAlarm:
    (found,) = alarms.read_alarms({"enabled": True, "alarms": [ERRORS | more]}).alarms
    assert isinstance(found, PrometheusAlarm)
    return found


@pytest.mark.parametrize(
    ("comparison", "firing"),
    [
        ("GreaterThanThreshold", (False, False, True)),
        ("GreaterThanOrEqualToThreshold", (False, True, True)),
        ("LessThanThreshold", (True, False, False)),
        ("LessThanOrEqualToThreshold", (True, True, False)),
    ],
)
def test_a_value_against_its_threshold(comparison: str, firing: tuple[bool, ...]):
    watched = alarm(comparisonOperator=comparison)
    found = [after_poll(watched, Standing(), Measured((value,)), NOW).state for value in (0.4, 0.5, 0.6)]
    assert found == [AlarmState.ALARM if each else AlarmState.OK for each in firing]


def test_a_breach_has_to_last_and_one_good_value_begins_anew():
    watched, standing, seen = alarm(forSeconds=60), Standing(), []
    for seconds, value in ((0, 0.9), (30, 0.8), (59, 0.7), (60, 0.6), (75, 0.1), (90, 0.9), (149, 0.9), (150, 0.9)):
        standing = after_poll(watched, standing, Measured((value,)), NOW + timedelta(seconds=seconds))
        seen.append((seconds, standing.state is AlarmState.ALARM))
    assert [seconds for seconds, is_firing in seen if is_firing] == [60, 150]


def test_one_series_of_several_is_enough():
    assert after_poll(alarm(), Standing(), Measured((0.1, 0.9, 0.2)), NOW).state is AlarmState.ALARM


@pytest.mark.parametrize(
    ("treated", "states"),
    [
        ("missing", (AlarmState.INSUFFICIENT_DATA, AlarmState.INSUFFICIENT_DATA)),
        ("notBreaching", (AlarmState.OK, AlarmState.OK)),
        ("breaching", (AlarmState.ALARM, AlarmState.ALARM)),
        ("ignore", (AlarmState.INSUFFICIENT_DATA, AlarmState.ALARM)),
    ],
)
def test_missing_data(treated: str, states: tuple[AlarmState, AlarmState]):
    watched = alarm(treatMissingData=treated)
    firing = Standing(AlarmState.ALARM, NOW)
    assert tuple(after_poll(watched, before, Measured(()), NOW).state for before in (Standing(), firing)) == states


def test_a_failed_poll_changes_nothing_and_three_in_a_row_stop_unless_they_are_ignored():
    watched = alarm()
    for ignored in (False, True):
        configuration = AlarmConfiguration(enabled=True, ignore_poll_failure=ignored, alarms=(watched,))
        standing, reasons = Standing(AlarmState.OK), []
        for _ in range(4):
            standing = after_poll(watched, standing, PollFailed("no answer in time"), NOW)
            assert standing.state is AlarmState.OK
            reasons.append(reason_to_stop(configuration, {"errors": standing}))
        told = "the state of the alarm errors cannot be had: no answer in time"
        assert reasons == ([""] * 4 if ignored else ["", "", told, told])
        standing = after_poll(watched, standing, Measured((0.1,)), NOW)
        assert reason_to_stop(configuration, {"errors": standing}) == ""


def test_what_stops_a_deployment():
    firing, fine = Standing(AlarmState.ALARM), Standing(AlarmState.OK)
    both = (alarm(), WebhookAlarm("pager"))
    on, off = AlarmConfiguration(enabled=True, alarms=both), AlarmConfiguration(enabled=False, alarms=both)
    assert reason_to_stop(on, {"errors": fine, "pager": firing}) == "the alarm pager is active"
    assert reason_to_stop(off, {"errors": fine, "pager": firing}) == ""
    assert reason_to_stop(on, {"errors": fine, "pager": fine}) == ""
    assert reason_to_stop(on, {}) == ""


@pytest.mark.parametrize("missing", MissingData)
def test_a_state_that_is_told_from_outside(missing: MissingData):
    told = WebhookAlarm("pager", stale_after_seconds=60, missing_data=missing)
    fresh, old = NOW - timedelta(seconds=60), NOW - timedelta(seconds=61)
    assert is_firing(told, AlarmState.ALARM, fresh, NOW)
    assert not is_firing(told, AlarmState.OK, fresh, NOW)
    of_missing = missing is MissingData.BREACHING
    assert is_firing(told, None, None, NOW) is of_missing
    assert is_firing(told, AlarmState.OK, old, NOW) is of_missing
    assert is_firing(told, AlarmState.INSUFFICIENT_DATA, fresh, NOW) is of_missing
    assert is_firing(told, AlarmState.ALARM, old, NOW) is (missing in {MissingData.BREACHING, MissingData.IGNORE})
    assert is_firing(WebhookAlarm("pager", missing_data=missing), AlarmState.ALARM, NOW - timedelta(days=9), NOW)
