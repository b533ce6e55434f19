"""Drivers of the routes of domains, repositories, package groups, origins, quotas and states of versions."""

from tests.security.audit_stage import API, DEV, PAGE, REPOSITORY, VERSION, Ask, Stage, drive, version

DOMAIN = f"{API}/domains/<domain>"
PACKAGE = f"{REPOSITORY}/packages/<format_name>/<name>"
GROUP = "/domains/default/package-group"
BOTH = {"restrictions": {"publish": "ALLOW", "upstream": "ALLOW"}}


# --- domains and repositories

drive(f"POST {API}/domains", lambda s: s.api("/domains", {"name": s.name("dom")}))
drive(f"DELETE {DOMAIN}", lambda s: s.api(f"/domains/{s.domain()}"))
drive(f"DELETE {REPOSITORY}", lambda s: s.api(f"/domains/default/repositories/{s.repository()}"))
drive("POST /domains/<domain>/new-repository", lambda s: s.form("/domains/default/new-repository", name=s.name("repo")))
drive(
    "POST /repositories/<domain>/<repository>/settings",
    lambda s: s.form(f"/repositories/default/{s.repository()}/settings", description="What our builds use"),
)
drive(f"PUT {DOMAIN}/quota", lambda s: s.api("/domains/default/quota", {"bytes": 10**12}))
drive(f"PUT {REPOSITORY}/quota", lambda s: s.api(f"{DEV}/quota", {"bytes": 10**12}))
drive(f"POST {DOMAIN}/keys/rotate", lambda s: s.api(f"/domains/{s.domain()}/keys/rotate"))


# --- package groups and origins


def _pattern(stage: Stage) -> str:
    return f"/pypi//{stage.name('lib')}$"


def _grouped(stage: Stage) -> str:
    pattern = _pattern(stage)
    stage.done("POST", GROUP, {"packageGroup": pattern})
    return pattern


drive(f"POST {DOMAIN}/package-group", lambda s: s.api(GROUP, {"packageGroup": _pattern(s)}))
drive(f"PUT {DOMAIN}/package-group", lambda s: s.api(GROUP, {"packageGroup": _grouped(s), "description": "ours"}))
drive(f"DELETE {DOMAIN}/package-group", lambda s: s.api(f"{GROUP}?packageGroup={_grouped(s)}"))
drive(
    f"PUT {DOMAIN}/package-group-origin-configuration",
    lambda s: s.api(
        f"{GROUP}-origin-configuration?packageGroup={_grouped(s)}", {"restrictions": {"EXTERNAL_UPSTREAM": "BLOCK"}}
    ),
)
drive(
    f"PUT {PACKAGE}/origin-configuration",
    lambda s: s.api(f"{DEV}/packages/pypi/{s.package()}/origin-configuration", BOTH),
)
drive("POST /package-groups/<domain>", lambda s: s.form("/package-groups/default", pattern=_pattern(s)))
drive(
    "POST /package-groups/<domain>/group",
    lambda s: s.form(
        "/package-groups/default/group",
        pattern=_grouped(s),
        PUBLISH="BLOCK",
        INTERNAL_UPSTREAM="INHERIT",
        EXTERNAL_UPSTREAM="INHERIT",
    ),
)
drive(
    "POST /package-groups/<domain>/group/delete",
    lambda s: s.form("/package-groups/default/group/delete", pattern=_grouped(s)),
)
drive(
    f"POST {PAGE}/origin",
    lambda s: s.form(f"/packages/default/dev/pypi/{s.package()}/origin", controls="BLOCK-BLOCK"),
)


# --- versions


def _versions(stage: Stage, act: str, **more: object) -> Ask:
    return stage.api(f"{DEV}/packages/pypi/{stage.package()}/versions/{act}", {"versions": ["1.0"], **more})


drive(f"DELETE {PACKAGE}", lambda s: s.api(f"{DEV}/packages/pypi/{s.package()}"))
drive(f"POST {VERSION}/reopen", lambda s: s.api(f"{version(s)}/reopen", {"hours": 2, "reason": "a wheel is missing"}))
drive(f"POST {PACKAGE}/versions/copy", lambda s: _versions(s, "copy", destinationRepository="staging"))
drive(f"POST {PACKAGE}/versions/update_status", lambda s: _versions(s, "update_status", targetStatus="Unlisted"))
drive(f"POST {PACKAGE}/versions/dispose", lambda s: _versions(s, "dispose"))
drive(f"POST {PACKAGE}/versions/delete", lambda s: _versions(s, "delete"))
drive(
    "POST /versions/<domain>/<repository>/<format_name>/<path:name>",
    lambda s: s.form(f"/versions/default/dev/pypi/{s.package()}", version="1", to="Archived"),
)
