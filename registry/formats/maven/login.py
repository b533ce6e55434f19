"""Client configuration for mvn and gradle.

mvn keeps the token in the ``<server>`` of its settings; gradle in ``gradle.properties``, which its init script reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from registry.errors import Invalid
from registry.format import LoginTarget, Tool
from registry.formats.maven.settings_file import EMPTY, set_entry

ID = "entrepot"
USER_PROPERTY, PASSWORD_PROPERTY = "entrepotUser", "entrepotPassword"

_REPOSITORY = """\
      <id>entrepot</id>
      <url>{url}</url>
      <releases><enabled>true</enabled></releases>
      <snapshots><enabled>true</enabled></snapshots>"""
# The mirror stands for the central repository too, which has no snapshots: a repository of its own turns them on.
_PROFILE = f"""\
<profile>
  <id>entrepot</id>
  <repositories>
    <repository>
{_REPOSITORY}
    </repository>
  </repositories>
  <pluginRepositories>
    <pluginRepository>
{_REPOSITORY}
    </pluginRepository>
  </pluginRepositories>
</profile>"""
DEPLOYMENT_ID = "entrepot-publish"
# With the layout: versions of the plugin before 3 need it, and later ones take it.
_DEPLOYMENT = """\
<profile>
  <id>entrepot-publish</id>
  <properties>
    <altDeploymentRepository>entrepot-publish::default::{url}</altDeploymentRepository>
  </properties>
</profile>"""
_SERVER = """\
<server>
  <id>entrepot</id>
  <username>{username}</username>
  <password>{token}</password>
</server>"""
_MIRROR = """\
<mirror>
  <id>entrepot</id>
  <mirrorOf>*</mirrorOf>
  <url>{url}</url>
</mirror>"""

_INIT_SCRIPT = """\
// Written by `entrepot login --tool gradle`, and written anew by the next one. The credential is in gradle.properties.
def entrepotUrl = '{url}'
def entrepotLogin = new Properties()
new File(gradle.gradleUserHomeDir, 'gradle.properties').withInputStream {{ entrepotLogin.load(it) }}
def entrepot = {{ repositories ->
    repositories.maven {{ repository ->
        repository.name = 'entrepot'
        repository.url = entrepotUrl
        if (entrepotUrl.startsWith('http:') && repository.hasProperty('allowInsecureProtocol')) {{
            repository.allowInsecureProtocol = true
        }}
        repository.credentials {{
            username = entrepotLogin.getProperty('{user}')
            password = entrepotLogin.getProperty('{password}')
        }}
    }}
}}
// Where the settings of a build list its repositories, its projects may not, or those of the settings would not count.
def projectsDeclare = true
settingsEvaluated {{ settings ->
    def plugins = settings.pluginManagement.repositories
    if (plugins.isEmpty()) {{ plugins.gradlePluginPortal() }}
    entrepot(plugins)
    if (settings.hasProperty('dependencyResolutionManagement')) {{
        def central = settings.dependencyResolutionManagement
        projectsDeclare = central.repositories.isEmpty() && !central.repositoriesMode.get().name().startsWith('FAIL')
        if (!projectsDeclare) {{ entrepot(central.repositories) }}
    }}
}}
allprojects {{ project ->
    entrepot(project.buildscript.repositories)
    if (projectsDeclare) {{ entrepot(project.repositories) }}
    project.pluginManager.withPlugin('maven-publish') {{
        // Not project.publishing: before Gradle 5 whoever asked for it closed it for the build itself.
        project.extensions.configure('publishing') {{ publishing -> entrepot(publishing.repositories) }}
    }}
}}
"""


def _check(target: LoginTarget) -> None:
    if not urlsplit(target.repository_url).hostname or not target.repository_url.endswith("/"):
        raise Invalid(f"the repository's URL must have a host and end in a slash: {target.repository_url!r}")
    if re.search(r"[\x00-\x1f\x7f'\"\\$]", target.repository_url + target.username + target.token):
        raise Invalid("the URL, the user's name or the token has a character that the configuration cannot hold")


def _mvn_files(home: Path, _env: Mapping[str, str]) -> list[Path]:
    return [home / ".m2" / "settings.xml"]


def _mvn_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    (path,) = existing
    return {path: settings_text(existing[path], target)}


def settings_text(existing: str | None, target: LoginTarget) -> str:
    """``settings.xml`` with everything it had, and this repository in front. Raises Invalid."""
    _check(target)
    values = {
        "url": escape(target.repository_url),
        "username": escape(target.username),
        "token": escape(target.token),
    }
    text = existing if existing is not None and existing.strip() else EMPTY
    for group, entry in (("servers", _SERVER), ("mirrors", _MIRROR), ("profiles", _PROFILE)):
        text = set_entry(text, group, entry.format(**values), ID)
    return set_entry(text, "activeProfiles", f"<activeProfile>{ID}</activeProfile>", ID)


def with_deployment(text: str, repository_url: str) -> str:
    """``settings.xml`` with a profile that makes ``mvn deploy`` publish there, whatever the POM says. Raises Invalid."""
    profile = _DEPLOYMENT.format(url=escape(repository_url))
    text = set_entry(text, "profiles", profile, DEPLOYMENT_ID)
    return set_entry(text, "activeProfiles", f"<activeProfile>{DEPLOYMENT_ID}</activeProfile>", DEPLOYMENT_ID)


def _mvn_notes(target: LoginTarget) -> list[str]:
    notes = [
        f"mvn now takes everything from {target.repository_url}, as a mirror of all repositories",
        f"publish with: mvn deploy -DaltDeploymentRepository={ID}::default::{target.repository_url}",
        "a repository in a POM's distributionManagement needs the id 'entrepot' to find the token",
    ]
    if urlsplit(target.repository_url).scheme == "http":
        notes.append("the server has no TLS: the token travels in clear")
    return notes


def _gradle_home(home: Path, env: Mapping[str, str]) -> Path:
    return Path(env["GRADLE_USER_HOME"]) if env.get("GRADLE_USER_HOME") else home / ".gradle"


def _gradle_files(home: Path, env: Mapping[str, str]) -> list[Path]:
    folder = _gradle_home(home, env)
    return [folder / "init.d" / "entrepot.gradle", folder / "gradle.properties"]


def _gradle_plan(existing: Mapping[Path, str | None], target: LoginTarget) -> Mapping[Path, str]:
    _check(target)
    script, properties = existing
    text = existing[properties] or ""
    for name, value in ((USER_PROPERTY, target.username), (PASSWORD_PROPERTY, target.token)):
        text = set_property(text, name, value)
    names = {"url": target.repository_url, "user": USER_PROPERTY, "password": PASSWORD_PROPERTY}
    return {script: _INIT_SCRIPT.format(**names), properties: text}


def set_property(text: str, name: str, value: str) -> str:
    """Set one key of a Java properties file, in its place or at the end; everything else stays as it is."""
    key = re.compile(rf"[ \t\f]*{re.escape(name)}[ \t\f]*(?:[=: \t\f]|\Z)")
    kept: list[str] = []
    is_set = False
    for line in _logical_lines(text):
        if key.match(line):
            kept += [] if is_set else [f"{name}={value}"]
            is_set = True
        else:
            kept.append(line)
    return "\n".join([*kept, *([] if is_set else [f"{name}={value}"])]) + "\n"


def _logical_lines(text: str) -> Iterator[str]:
    """The lines, with those together that a backslash at the end joins: what stands in the second is no key."""
    joined = ""
    for line in text.splitlines():
        is_comment = not joined and line.lstrip().startswith(("#", "!"))
        goes_on = not is_comment and (len(line) - len(line.rstrip("\\"))) % 2 == 1
        joined += line + ("\n" if goes_on else "")
        if not goes_on:
            yield joined
            joined = ""
    if joined:
        yield joined.removesuffix("\n")


def _gradle_notes(target: LoginTarget) -> list[str]:
    return [
        f"gradle now takes libraries and plugins from {target.repository_url} as well",
        "publish with the plugin maven-publish: gradle publishAllPublicationsToEntrepotRepository",
        "the credential is in gradle.properties of gradle's home",
    ]


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.name: tool
        for tool in (
            Tool("mvn", _mvn_files, _mvn_plan, _mvn_notes),
            Tool("gradle", _gradle_files, _gradle_plan, _gradle_notes),
        )
    }
)
