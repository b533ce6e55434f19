"""Identity providers out of the settings: a table ``[oidc.NAME]`` for each, its secret from a file or the environment."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from registry.access import parse_actions
from registry.errors import Invalid
from registry.names import group_name
from registry.oidc.provider import ALGORITHMS, Provider
from registry.upstream.guard import AddressPolicy, BlockedAddress, check_url

_NAME = re.compile(r"[a-z][a-z0-9-]{0,26}\Z")
_LISTS = frozenset({"scopes", "algorithms", "email_domains", "new_user_actions"})
_SWITCHES = frozenset({"create_users", "match_existing", "fresh_without_auth_time"})
_TEXTS = frozenset({"issuer", "client_id", "label", "user_claim", "groups_claim", "ca_bundle"})
_OWN = frozenset({"client_secret_file", "allowed_networks", "groups"})


def read(tables: Any, environment: Mapping[str, str], faults: list[str]) -> tuple[Provider, ...]:
    """The providers of the section ``oidc``, by name; what is wrong with them is added to ``faults``."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        faults.append("oidc holds a section for each identity provider: [oidc.NAME]")
        return ()
    providers = []
    for name, table in sorted(tables.items()):
        if not _NAME.match(name):
            faults.append(f"[oidc.{name}]: a name has 1 to 27 of a-z, 0-9 and '-', a letter first")
            continue
        try:
            providers.append(_provider(name, table, environment))
        except ValueError as error:
            faults.append(f"oidc.{name}.{error}")
    issuers = [provider.issuer for provider in providers]
    faults.extend(
        f"oidc: two providers have the issuer {issuer}" for issuer in {i for i in issuers if issuers.count(i) > 1}
    )
    return tuple(providers)


def _provider(name: str, table: Mapping[str, Any], environment: Mapping[str, str]) -> Provider:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key in _LISTS:
            values[key] = _texts(key, value)
        elif key in _SWITCHES:
            values[key] = _switch(key, value)
        elif key in _TEXTS:
            values[key] = _text(key, value)
        elif key not in _OWN:
            raise ValueError(f"{key} is not a setting")
    for key in ("issuer", "client_id"):
        if not values.get(key):
            raise ValueError(f"{key} is missing")
    networks = tuple(map(_network, _texts("allowed_networks", table.get("allowed_networks", []))))
    provider = Provider(
        name=name,
        client_secret=_secret(name, table.get("client_secret_file", ""), environment),
        groups=_groups(table.get("groups", {})),
        policy=AddressPolicy(networks),
        **values,
    )
    return _checked(dataclasses.replace(provider, email_domains=tuple(map(str.lower, provider.email_domains))))


def _checked(provider: Provider) -> Provider:
    try:
        url = check_url(provider.issuer, provider.policy)
    except BlockedAddress as error:
        raise ValueError(f"issuer: {error}") from None
    if url.origin.scheme == "http" and not provider.policy.allowed_networks:
        raise ValueError("issuer: without https only in allowed_networks")
    if "?" in provider.issuer or "#" in provider.issuer:
        raise ValueError("issuer has neither query nor fragment (OpenID Connect Discovery §2)")
    if unknown := set(provider.algorithms) - set(ALGORITHMS):
        raise ValueError(f"algorithms: {', '.join(sorted(unknown))}; there are {', '.join(ALGORITHMS)}")
    if not provider.algorithms:
        raise ValueError("algorithms: at least one is needed")
    if "openid" not in provider.scopes:
        raise ValueError("scopes must hold openid")
    try:
        parse_actions(provider.new_user_actions)
    except Invalid as error:
        raise ValueError(f"new_user_actions: {error}") from None
    if provider.groups and not provider.groups_claim:
        raise ValueError("groups needs groups_claim, the claim that lists them")
    return provider


def _secret(name: str, path: Any, environment: Mapping[str, str]) -> str:
    variable = f"ENTREPOT_OIDC_{name.upper().replace('-', '_')}_CLIENT_SECRET"
    if environment.get(variable):
        return environment[variable]
    if not path:
        return ""
    try:
        return Path(_text("client_secret_file", path)).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"client_secret_file: {error}") from None


def _groups(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(group, str) for group in value.values()):
        raise ValueError("groups is a table of texts: the provider's group = the group here")
    try:
        return {said: group_name(group) for said, group in value.items()}
    except Invalid as error:
        raise ValueError(f"groups: {error}") from None


def _text(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{key}: {value!r} is not text")


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key}: {value!r} is not a list of texts")
    return tuple(value)


def _switch(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{key}: {value!r} is neither true nor false")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"allowed_networks: {error}") from None
