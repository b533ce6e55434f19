"""The pure half of the format: its modules behind the contract of ``registry.format.Format``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from registry.errors import Invalid
from registry.format import BadIndex, Dependency, Description, FileLink, Listing, Location, LoginTarget, link_in
from registry.formats.maven import coordinates, default_upstream, login, metadata, paths, pom, version_order
from registry.formats.maven.xml_reader import BadXml
from registry.names import PackageKey

XML_ACCEPT = "application/xml, text/xml;q=0.9, */*;q=0.1"


class PureMaven:
    """``registry.format.Format`` for Maven repositories. A build of a snapshot is a version of its own."""

    name = coordinates.NAME
    digests = frozenset({"md5", "sha1", "sha512"})
    osv_ecosystem = "Maven"

    def key(self, written: str) -> PackageKey:
        """``group:artifact`` or ``group/artifact``; upper and lower case are two names."""
        return coordinates.read_key(written)

    def display_name(self, key: PackageKey) -> str:
        """``group:artifact``."""
        return f"{key.namespace}:{key.name}"

    def index_path(self, key: PackageKey) -> str:
        """The metadata of the artifact: its versions, and no files."""
        return f"{paths.artifact_folder(key)}/{paths.METADATA}"

    def index_accept(self) -> str:
        """XML, whatever it is called."""
        return XML_ACCEPT

    def parse_index(self, key: PackageKey, body: bytes, _content_type: str, _final_url: str) -> Listing:
        """Read an artifact's metadata; the versions are in ``extra``."""
        try:
            found = metadata.read(body)
        except BadXml as error:
            raise BadIndex(f"the metadata of {key.path} cannot be read: {error}") from error
        return Listing(key, (), extra=found.as_extra())

    def find_link(
        self, key: PackageKey, body: bytes, content_type: str, final_url: str, filename: str
    ) -> FileLink | None:
        """As the whole is read: these lists are short."""
        return link_in(self.parse_index(key, body, content_type, final_url), filename)

    def locate(self, key: PackageKey, filename: str) -> Location | None:
        """``filename`` is ``{folder}/{file}``; the digest lies beside the file."""
        path = f"{paths.artifact_folder(key)}/{filename}"
        try:
            place = paths.parse(path)
        except Invalid:
            return None
        if not isinstance(place, paths.FilePath) or place.checksum is not None:
            return None
        return Location(place.version, path, f"{path}.sha1", "sha1")

    def usual_files(self, key: PackageKey, version: str) -> Sequence[str]:
        """The POM, and the archive that most have; what else there may be (sources, classifiers) nothing tells.

        None of a snapshot: its builds are called by their time.
        """
        if version.endswith(coordinates.SNAPSHOT):
            return ()
        return [f"{version}/{key.name}-{version}.{ending}" for ending in ("pom", "jar")]

    def is_whole(self, filenames: Collection[str]) -> bool:
        """With its POM a version can be used; clients send it with the other files, and some never send metadata."""
        return any(filename.endswith(".pom") for filename in filenames)

    def summary(self, _extra: Mapping[str, Any]) -> str:
        """Metadata names versions only."""
        return ""

    def describing(self, filenames: Collection[str]) -> Sequence[str]:
        """The POM."""
        return [filename for filename in sorted(filenames) if filename.endswith(".pom")]

    def describe(self, _filename: str, body: BinaryIO) -> Description:
        """What the POM says; what it inherits is not looked up."""
        found = pom.read_pom(body)
        return Description(found.summary, found.metadata, found.description, pom.DESCRIPTION_TYPE)

    def dependency(self, written: str) -> Dependency | None:
        """``group:artifact:version``, with its scope behind it where it is not compile."""
        coordinate, _, notes = written.partition(" (")
        group, _, rest = coordinate.partition(":")
        artifact, _, version = rest.partition(":")
        if not group or not artifact:
            return None
        return Dependency(group, artifact, notes.removesuffix(")") or "compile", version)

    def sort_key(self, version: str) -> Any:
        """Maven's order."""
        return version_order.sort_key(version)

    def install_hint(self, repository_url: str, key: PackageKey, version: str) -> list[tuple[str, str]]:
        """A command for mvn, and the lines of a build file for gradle."""
        artifact = f"{key.namespace}:{key.name}:{version}"
        options = (f"-DremoteRepositories=entrepot::::{repository_url}", f"-Dartifact={artifact}")
        lines = (
            f"repositories {{ maven {{ url = '{repository_url}' }} }}",
            f"dependencies {{ implementation '{artifact}' }}",
        )
        return [("mvn", shlex.join(["mvn", "dependency:get", *options])), ("gradle", "\n".join(lines))]

    def build_variables(self, repository_url: str) -> Mapping[str, str]:
        """Where builds find the repository."""
        return {"ENTREPOT_MAVEN_URL": repository_url}

    def build_files(self, target: LoginTarget, publish: LoginTarget | None = None) -> Mapping[str, str]:
        """What ``login`` writes for a person: neither mvn nor gradle reads ``~/.netrc``. With where mvn deploys to."""
        home = Path("/")
        planned: dict[str, str] = {}
        for tool in login.TOOLS.values():
            texts = tool.plan(dict.fromkeys(tool.files(home, {})), target)
            planned.update({str(path.relative_to(home)): text for path, text in texts.items()})
        if publish is not None:
            settings = ".m2/settings.xml"
            planned[settings] = login.with_deployment(planned[settings], publish.repository_url)
        return planned

    def publish_variables(self, _target: LoginTarget) -> Mapping[str, str]:
        """None: mvn reads its settings, and gradle's builds say where they publish."""
        return {}

    def build_packages(self) -> tuple[str, Mapping[str, str]]:
        """A JDK and Maven."""
        return "java", {"default-jdk-headless": "javac", "maven": "mvn"}

    def build_paths(self) -> Sequence[str]:
        """What Debian links to out of ``/usr``: how Maven starts and logs, and how Java is configured.

        Not Maven's ``settings.xml``, which may hold the machine's passwords.
        """
        etc = Path("/etc")
        javas = sorted(str(path) for path in etc.glob("java-*-openjdk"))
        return (str(etc / "maven" / "m2.conf"), str(etc / "maven" / "logging"), *javas)

    def default_upstream_url(self, is_own: Callable[[str], bool]) -> str:
        """What Maven uses here for the central repository."""
        return default_upstream.default_upstream_url(is_own)
