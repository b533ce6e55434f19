"""mvn: the dependencies of ``sets/pom.xml`` into an empty local repository, and the plugin that resolves them."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.sax.saxutils import escape

from bench import clients, toolbox
from bench.clients import SETS, Source
from bench.installs import Install, Step, row
from registry.format import LoginTarget
from registry.formats.maven.default_upstream import default_upstream_url
from registry.formats.maven.login import settings_text

PROJECT = SETS / "pom.xml"
FORMAT = "maven"
_SETTINGS = """<settings>
<servers><server><id>bench</id><username>{user}</username><password>{password}</password></server></servers>
<mirrors><mirror><id>bench</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors>
</settings>
"""


def upstream() -> str:
    return default_upstream_url(lambda _: False)


def resolve(source: Source, _place: Path, _cache: Path) -> float:
    """``mvn dependency:resolve``, everything fetched anew."""
    with clients.scratch() as folder:
        shutil.copy(PROJECT, folder)
        (folder / "settings.xml").write_text(settings(source))
        (folder / "none.xml").write_text("<settings/>")
        command: list[str | Path] = ["mvn", "-q", "-B", "-s", folder / "settings.xml", "-gs", folder / "none.xml"]
        command.append(f"-Dmaven.repo.local={folder / 'repository'}")
        more = {"MAVEN_OPTS": f"-Duser.home={folder}"}
        return clients.run([*command, "dependency:resolve"], folder, cwd=folder, more=more)


def settings(source: Source) -> str:
    """Maven's settings: of a server of ours, what ``entrepot login`` writes."""
    if source.server is not None:
        return settings_text(None, LoginTarget(source.url, source.user, source.password))
    given = {"url": source.url, "user": source.user, "password": source.password}
    return _SETTINGS.format_map({name: escape(value) for name, value in given.items()})


SET = Install(
    FORMAT,
    (toolbox.MAVEN,),
    upstream,
    {},
    (
        Step(row("mvnset-cold", "mvn dependency:resolve, 34 artifacts, cold proxy"), resolve),
        Step(row("mvnset-warm", "mvn dependency:resolve, 34 artifacts, warm proxy"), resolve, 2),
    ),
)
