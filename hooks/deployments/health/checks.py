"""Health checks out of a group's document (``healthChecks``), in the words of a load balancer's target group. Pure.

[{"name": "ready", "type": "HTTP", "url": "http://{host}:{port}/healthz", "matcher": {"httpCode": "200-299,302"},
  "bodyContains": "ok", "intervalSeconds": 5, "timeoutSeconds": 3, "healthyThresholdCount": 2,
  "unhealthyThresholdCount": 3},
 {"name": "port", "type": "TCP", "address": "{host}:{port}"},
 {"name": "queue", "type": "COMMAND", "command": ["CMD-SHELL", "test -S /run/app.sock"], "timeoutSeconds": 10},
 {"name": "smoke", "type": "COMMAND", "location": "scripts/smoke.sh", "runas": "app", "timeoutSeconds": 60}]
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hooks.deployments.health.fields import Fields, entries
from registry.errors import InvalidDocument
from registry.upstream.guard import BlockedAddress, WebUrl, parse_url

MAX_CHECKS = 10
MAX_SECONDS = 3600
_LONGEST_COMMAND = 4000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_PLACEHOLDER = re.compile(r"\{[^{}]{0,80}\}?|\}")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}\Z")
_CODES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?\Z")
PLACEHOLDERS = ("{host}", "{port}")
"""What stands in a check for the target's address."""
_COMMON = (
    "name",
    "type",
    "intervalSeconds",
    "timeoutSeconds",
    "healthyThresholdCount",
    "unhealthyThresholdCount",
)


class CheckType(StrEnum):
    """How a target is asked."""

    HTTP = "HTTP"
    TCP = "TCP"
    COMMAND = "COMMAND"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a target is asked, how long it has for an answer, and how many in a row decide."""

    interval_seconds: int = 5
    timeout_seconds: int = 3
    healthy_count: int = 2
    unhealthy_count: int = 3


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """A GET that has to answer one of the ``statuses`` (each a range, both ends included), with ``body_contains``.

    ``url`` holds ``{host}`` and ``{port}`` for the target's.
    """

    name: str
    pace: Pace
    url: str
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    body_contains: str = ""

    def url_for(self, host: str, port: int | None) -> WebUrl:
        """Where one target is asked. Raises BlockedAddress for what is no URL then."""
        return parse_url(_filled(self.url, f"[{host}]" if ":" in host else host, port))

    def expects(self, status: int) -> bool:
        """Whether a status is one of those."""
        return any(first <= status <= last for first, last in self.statuses)


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A connection that has to come about. ``host`` and ``port`` hold ``{host}`` and ``{port}``, or are fixed."""

    name: str
    pace: Pace
    host: str = "{host}"
    port: str = "{port}"

    def address_for(self, host: str, port: int | None) -> tuple[str, int]:
        """Where one target is asked. Raises BlockedAddress for what is no address then."""
        there = _filled(self.host, host, port)
        name = f"[{there}]" if ":" in there else there
        origin = parse_url(f"http://{name}:{_filled(self.port, host, port)}/").origin
        return origin.host, origin.port


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """What the target's agent runs: exit status 0 is well. ``runas`` as in ``appspec.yml``.

    ``command`` is a program with its arguments, as a task definition's health check has it: behind CMD, or behind
    CMD-SHELL one line for the shell. Or ``location`` is a script of the bundle.
    """

    name: str
    pace: Pace
    command: tuple[str, ...] = ()
    location: str = ""
    runas: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        """The command as it is run; empty for a script of the bundle."""
        match self.command:
            case ("CMD-SHELL", script):
                return ("/bin/sh", "-c", script)
            case ("CMD", *rest):
                return tuple(rest)
            case found:
                return found


Check = HttpCheck | TcpCheck | CommandCheck


def checks_of(value: Any, faults: list[str], where: str = "healthChecks") -> tuple[Check, ...]:
    """The checks of a list as ``json.loads`` gives it; what is wrong with them is added to ``faults``."""
    found = [check for fields in entries(value, where, faults, most=MAX_CHECKS) if (check := _check(fields))]
    names = [check.name for check in found]
    faults.extend(
        f"{where}: two have the name {name}" for name in sorted({n for n in names if n and names.count(n) > 1})
    )
    return tuple(found)


def read_checks(value: Any) -> tuple[Check, ...]:
    """As ``checks_of``. Raises InvalidDocument with all faults."""
    faults: list[str] = []
    found = checks_of(value, faults)
    if faults:
        raise InvalidDocument("healthChecks", faults)
    return found


def check_name(fields: Fields) -> str:
    """The name that a check or an alarm is told by; empty after a fault."""
    name = fields.text("name", longest=64)
    if name and not _NAME.match(name):
        fields.fault("name", "has A-Z, a-z, 0-9, '_', '.' and '-', a letter or digit first")
        return ""
    return name


def url_fault(url: str, placeholders: tuple[str, ...] = ()) -> str:
    """What is wrong with a URL that is asked, with these placeholders; empty for nothing."""
    unknown = sorted(set(_PLACEHOLDER.findall(url)) - set(placeholders))
    if unknown:
        known = " and ".join(placeholders)
        return f"holds {unknown[0]}; " + (f"there are {known}" if known else "there is nothing to be filled in here")
    try:
        parse_url(_filled(url, "192.0.2.1", 80))
    except BlockedAddress as refused:
        return f"cannot be asked: {refused}"
    return ""


def _filled(text: str, host: str, port: int | None) -> str:
    # A machine says itself where it is: with "a/?" for a host it would have another page asked than the check's.
    if not _HOST.match(host.removeprefix("[").removesuffix("]")):
        raise BlockedAddress("the target's address is no host")
    if "{port}" in text and port is None:
        raise BlockedAddress("the target has no port, and the check asks for one: write it into the check")
    return text.replace("{host}", host).replace("{port}", str(port))


def _check(fields: Fields) -> Check | None:
    name = check_name(fields)
    match fields.word("type", CheckType):
        case CheckType.HTTP:
            return _http(fields, name)
        case CheckType.TCP:
            return _tcp(fields, name)
        case CheckType.COMMAND:
            return _command(fields, name)
        case None:
            return None


def _pace(fields: Fields, *, timeout_seconds: int, most_seconds: int) -> Pace:
    return Pace(
        interval_seconds=fields.whole("intervalSeconds", 5, least=1, most=MAX_SECONDS),
        timeout_seconds=fields.whole("timeoutSeconds", timeout_seconds, least=1, most=most_seconds),
        healthy_count=fields.whole("healthyThresholdCount", 2, least=1, most=100),
        unhealthy_count=fields.whole("unhealthyThresholdCount", 3, least=1, most=100),
    )


def _http(fields: Fields, name: str) -> HttpCheck:
    fields.known([*_COMMON, "url", "matcher", "bodyContains"])
    url = fields.text("url")
    if url and (fault := url_fault(url, PLACEHOLDERS)):
        fields.fault("url", fault)
    matcher = fields.object("matcher")
    statuses: tuple[tuple[int, int], ...] = ((200, 299),)
    if matcher is not None:
        matcher.known(["httpCode"])
        statuses = _statuses(matcher)
    return HttpCheck(
        name=name,
        pace=_pace(fields, timeout_seconds=3, most_seconds=120),
        url=url,
        statuses=statuses,
        body_contains=fields.text("bodyContains", "", longest=1000),
    )


def _statuses(matcher: Fields) -> tuple[tuple[int, int], ...]:
    """``200-299,302``: values and ranges."""
    found = []
    for part in matcher.text("httpCode", longest=200).split(","):
        code = _CODES.match(part.strip())
        if code is None or int(code[1]) > int(code[2] or code[1]):
            matcher.fault("httpCode", "has to be statuses and ranges of them, as in 200-299,302")
            return ((200, 299),)
        found.append((int(code[1]), int(code[2] or code[1])))
    return tuple(found)


def _tcp(fields: Fields, name: str) -> TcpCheck:
    fields.known([*_COMMON, "address"])
    address = fields.text("address", "{host}:{port}", longest=300)
    host, _, port = address.rpartition(":")
    if fault := url_fault(f"http://{address}/", PLACEHOLDERS):
        fields.fault("address", fault)
    elif not host or not (port == "{port}" or port.isdigit()) or "/" in address:
        fields.fault("address", "has to be a host and a port, as in {host}:{port} or {host}:5432")
    pace = _pace(fields, timeout_seconds=3, most_seconds=120)
    return TcpCheck(name, pace, host.removeprefix("[").removesuffix("]"), port)


def commands_of(group: Mapping[str, Any]) -> list[CommandCheck]:
    """The checks of a group's document that its agents make."""
    if group.get("healthChecks") is None:
        return []
    return [check for check in checks_of(group["healthChecks"], []) if isinstance(check, CommandCheck)]


def _command(fields: Fields, name: str) -> CommandCheck:
    fields.known([*_COMMON, "command", "location", "runas"])
    if fields.has("command") == fields.has("location"):
        fields.fault("command", "or location has to be there, and not both")
    command = fields.texts("command", longest=_LONGEST_COMMAND) if fields.has("command") else ()
    if command and ((command[0] == "CMD-SHELL" and len(command) != 2) or command == ("CMD",)):
        fields.fault("command", "has a program behind CMD, and one text for the shell behind CMD-SHELL")
    location = fields.text("location", longest=1000) if fields.has("location") else ""
    if location.startswith("/") or ".." in location.split("/"):
        fields.fault("location", "has to be the path of a script within the bundle")
    runas = fields.text("runas", "", longest=32)
    if runas and not _USER.match(runas):
        fields.fault("runas", "has to be the name of a user")
    pace = _pace(fields, timeout_seconds=60, most_seconds=MAX_SECONDS)
    return CommandCheck(name, pace, command, location, runas)


def as_json(check: Check) -> Mapping[str, Any]:
    """The document of one check, complete: what an agent is told of a COMMAND."""
    common = {
        "name": check.name,
        "intervalSeconds": check.pace.interval_seconds,
        "timeoutSeconds": check.pace.timeout_seconds,
        "healthyThresholdCount": check.pace.healthy_count,
        "unhealthyThresholdCount": check.pace.unhealthy_count,
    }
    match check:
        case HttpCheck():
            codes = ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in check.statuses)
            own: dict[str, Any] = {"type": "HTTP", "url": check.url, "matcher": {"httpCode": codes}}
            return common | own | ({"bodyContains": check.body_contains} if check.body_contains else {})
        case TcpCheck():
            host = f"[{check.host}]" if ":" in check.host else check.host
            return common | {"type": "TCP", "address": f"{host}:{check.port}"}
        case CommandCheck():
            what = {"location": check.location} if check.location else {"command": list(check.command)}
            own = {"type": "COMMAND", **what}
            return common | own | ({"runas": check.runas} if check.runas else {})
