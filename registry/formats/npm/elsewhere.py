"""Commands of npm for things that Entrepot does in another way, or not: each gets a sentence that says what to do. Pure.

Without one npm prints of a 404 that a package could not be found, which sends people looking for the wrong fault.
"""

from __future__ import annotations

import re

RIGHTS = (
    "there are no organisations and teams here: what an account may do, and in which repositories, is decided by an "
    "administrator (entrepot user create, or the API's /users)"
)
_ACCESS = (
    "who may read and publish is decided for a repository and not for a package: an administrator sets it on the "
    "repository's page and with each account's rights; publishing asks for no second factor"
)
_STAGE = (
    "nothing is staged here: publish to one repository and promote the version to the next (entrepot package promote, "
    "or the version's page), where a pipeline can wait for an approval"
)
_TRUST = (
    "no publisher is trusted for where it runs: make a token that may only publish, and only there (entrepot token "
    "new), and give it to the job"
)
_PROFILE = "an account has nothing but its name, its password and its tokens here: change them on your account's page"
_HOOKS = "npm's hooks are not served: let a pipeline start when a package is published"
STARS = "packages have no stars here"
OWNERS = "packages have no owners of their own here: who may publish is decided by each account's rights"

# Not "-/org/<name>/package": npm asks for it before "-/user/<name>/package", and goes on only after a 404.
_SENTENCES = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"-/org/[^/]+/(?:user|team)\Z", RIGHTS),
        (r"-/team/", RIGHTS),
        (r"-/package/.+/access\Z", _ACCESS),
        (r"-/package/.+/trust(?:/[^/]*)?\Z", _TRUST),
        (r"-/npm/v1/oidc/", _TRUST),
        (r"-/stage(?:/|\Z)", _STAGE),
        (r"-/npm/v1/user\Z", _PROFILE),
        (r"-/npm/v1/hooks(?:/|\Z)", _HOOKS),
        (r"-/_view/starredBy", STARS),
        # What pnpm asks for.
        (r"-/user/(?:v1|package/.+)/star\Z", STARS),
        (r"-/package/.+/owners\Z", OWNERS),
    )
)


def sentence(path: str) -> str | None:
    """What to do instead of what ``path`` (below the repository's address) stands for; None for any other path."""
    return next((said for pattern, said in _SENTENCES if pattern.match(path)), None)
