"""Drivers of the routes of roles, groups, policies and accounts."""

import json

from tests.security.audit_stage import API, REPOSITORY, Stage, drive

NOWHERE = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "repository/default/nowhere"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [NOWHERE]})


# --- roles and groups


def _grant(stage: Stage) -> dict[str, str]:
    return {"role": "publisher", "principal": f"group/{stage.group()}", "where": "default/dev"}


def _granted(stage: Stage) -> int:
    return int(stage.done("POST", "/role-grants", _grant(stage))["id"])


drive(f"POST {API}/role-grants", lambda s: s.api("/role-grants", _grant(s)))
drive(f"DELETE {API}/role-grants/<id:grant_id>", lambda s: s.api(f"/role-grants/{_granted(s)}"))
drive(f"POST {API}/groups", lambda s: s.api("/groups", {"name": s.name("group")}))
drive(f"DELETE {API}/groups/<group>", lambda s: s.api(f"/groups/{s.group()}"))
drive(f"PUT {API}/groups/<group>/members/<user>", lambda s: s.api(f"/groups/{s.group()}/members/reader"))
drive(f"DELETE {API}/groups/<group>/members/<user>", lambda s: s.api(f"/groups/{s.group('reader')}/members/reader"))
drive("POST /access/roles", lambda s: s.form("/access/roles", **_grant(s)))
drive("POST /access/roles/<int:grant_id>/revoke", lambda s: s.form(f"/access/roles/{_granted(s)}/revoke"))
drive("POST /access/groups", lambda s: s.form("/access/groups", name=s.name("group")))
drive("POST /access/groups/<group>/delete", lambda s: s.form(f"/access/groups/{s.group()}/delete"))
drive("POST /access/groups/<group>/members", lambda s: s.form(f"/access/groups/{s.group()}/members", user="reader"))
drive(
    "POST /access/groups/<group>/members/<user>/remove",
    lambda s: s.form(f"/access/groups/{s.group('reader')}/members/reader/remove"),
)


# --- domains and policies


def _place(stage: Stage, *, has_policy: bool = False) -> str:
    place = f"/domains/{stage.domain()}/permissions/policy"
    if has_policy:
        stage.done("PUT", place, {"policyDocument": POLICY})
    return place


def _repository_place(stage: Stage, *, has_policy: bool = False) -> str:
    place = f"/domains/default/repositories/{stage.repository()}/permissions/policy"
    if has_policy:
        stage.done("PUT", place, {"policyDocument": POLICY})
    return place


DOMAIN_POLICY = f"{API}/domains/<domain>/permissions/policy"
drive(f"PUT {DOMAIN_POLICY}", lambda s: s.api(_place(s), {"policyDocument": POLICY}))
drive(f"DELETE {DOMAIN_POLICY}", lambda s: s.api(_place(s, has_policy=True)))
drive(f"PUT {REPOSITORY}/permissions/policy", lambda s: s.api(_repository_place(s), {"policyDocument": POLICY}))
drive(f"DELETE {REPOSITORY}/permissions/policy", lambda s: s.api(_repository_place(s, has_policy=True)))
drive("POST /access/domains", lambda s: s.form("/access/domains", name=s.name("dom")))
drive("POST /access/domains/<domain>/delete", lambda s: s.form(f"/access/domains/{s.domain()}/delete"))
drive("POST /access/policy/<domain>", lambda s: s.form(f"/access/policy/{s.domain()}", document=POLICY))
drive(
    "POST /access/policy/<domain>/<repository>",
    lambda s: s.form(f"/access/policy/default/{s.repository()}", document=POLICY),
)


# --- accounts

USER = f"{API}/users/<user>"
drive(f"PATCH {USER}", lambda s: s.api(f"/users/{s.person()}", {"isDisabled": True}))
drive(f"DELETE {USER}", lambda s: s.api(f"/users/{s.person()}"))
drive(f"DELETE {USER}/sessions", lambda s: s.api(f"/users/{s.person()}/sessions"))
drive(f"POST {USER}/disable", lambda s: s.api(f"/users/{s.person()}/disable"))


def _disabled(stage: Stage) -> str:
    name = stage.person()
    stage.disable(name)
    return name


drive(f"POST {USER}/enable", lambda s: s.api(f"/users/{_disabled(s)}/enable"))
drive(f"POST {USER}/login-link", lambda s: s.api(f"/users/{s.person()}/login-link"))
drive("POST /access/users", lambda s: s.form("/access/users", name=s.name("person"), actions="read"))
drive("POST /access/users/<user>", lambda s: s.form(f"/access/users/{s.person()}", actions="publish"))
drive("POST /access/users/<user>/enable", lambda s: s.form(f"/access/users/{_disabled(s)}/enable"))
drive("POST /access/users/<user>/join", lambda s: s.form(f"/access/users/{s.person()}/join", group=s.group()))
for _act in ("disable", "delete", "login-link", "sign-out"):
    drive(
        f"POST /access/users/<user>/{_act}",
        lambda s, act=_act: s.form(f"/access/users/{s.person()}/{act}"),
    )


# --- quotas and keys

drive("POST /quotas/<domain>", lambda s: s.form(f"/quotas/{s.domain()}", limit="1 GB"))
drive("POST /quotas/<domain>/<repository>", lambda s: s.form(f"/quotas/default/{s.repository()}", limit="1 GB"))
drive(f"POST {API}/keys/rotate", lambda s: s.api("/keys/rotate"))
drive("POST /keys/server/rotate", lambda s: s.form("/keys/server/rotate"))
drive("POST /keys/domains/<domain>/rotate", lambda s: s.form(f"/keys/domains/{s.domain()}/rotate"))
