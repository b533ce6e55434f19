"""A unit for systemd that runs the agent, as hard as what it is for lets it be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hooks.deployments.agent.settings import AgentSettings

STOP_SECONDS = 3660
"""An event may last an hour; the agent ends after it."""


def unit(program: Sequence[str], data: Path, user: str, settings: AgentSettings) -> str:
    """The unit's text. ``program`` is how ``entrepot`` is called here; ``user`` "" or root for root."""
    is_root = user in {"", "root"}
    command = " ".join(_quoted(each) for each in (*program, "agent", "run", "--data", str(data)))
    lines = [
        "[Unit]",
        "Description=Entrepot deployment agent",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={command}",
        "Restart=always",
        "RestartSec=10",
        f"TimeoutStopSec={STOP_SECONDS}",
        "# What start scripts leave running stays when the agent is started anew.",
        "KillMode=process",
        "UMask=0022",
    ]
    lines += [] if is_root else [f"User={user}"]
    lines += ["", *_hardening(data, settings, is_root=is_root), "", "[Install]", "WantedBy=multi-user.target", ""]
    return "\n".join(lines)


def _hardening(data: Path, settings: AgentSettings, *, is_root: bool) -> list[str]:
    lines = [
        "# All of it holds for scripts as well, and for what they start.",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectHostname=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "SystemCallArchitectures=native",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    ]
    if not is_root:
        lines += ["NoNewPrivileges=yes", "RestrictSUIDSGID=yes", "CapabilityBoundingSet="]
    if settings.destinations and not settings.scripts:
        places = " ".join(_quoted(each) for each in (str(data), *settings.destinations))
        lines += ["# No script runs here: nothing beside these is written.", "ProtectSystem=strict"]
        lines += [f"ReadWritePaths={places}", "PrivateTmp=yes", "PrivateDevices=yes"]
    return lines


def _quoted(text: str) -> str:
    """A word of a unit file: % stands for itself, blanks and quotes do not end it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if any(character in escaped for character in " \t'\"\\;") else escaped
