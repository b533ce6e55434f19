"""How the sources of builds are fetched on this machine: git in a sandbox behind the guarded proxy, uploads from the store."""

from __future__ import annotations

from collections.abc import Callable

from config.git_sources import git_fetcher
from config.settings import Settings
from hooks.builds.bundles import FetchInput
from hooks.builds.credentials import open_credential
from hooks.builds.executor import ExecutorError, Interrupt
from hooks.builds.executors.process import ProcessSettings
from hooks.builds.git_fetch import Fetched, GitCredential
from hooks.builds.handing_over import open_artifact
from hooks.builds.local_caches import SourceCache
from hooks.builds.project import SourceSettings, SourceType
from hooks.builds.revision_archives import open_revision_archive
from hooks.builds.source import PackageSource
from hooks.builds.uploads import open_upload
from registry.services import Services
from storage.errors import StorageError


def input_fetcher(settings: Settings, services: Services, builds: ProcessSettings) -> FetchInput:
    """What brings a build's inputs. Its sandboxes are those of ``builds``, but for where they can reach."""
    git = git_fetcher(settings, builds)
    credential_of = credential_opener(services)

    def fetch(
        project_id: int,
        _source: PackageSource,
        wanted: SourceSettings,
        interrupt: Interrupt,
        cache: SourceCache | None = None,
    ) -> Fetched:
        if wanted.type is SourceType.UPLOAD:
            return Fetched(open_upload(services.db, services.stores, project_id, wanted.location, wanted.version), "")
        if wanted.type is SourceType.ARTIFACT:
            return Fetched(open_artifact(services.db, services.stores, wanted), "")
        if wanted.type is SourceType.REVISION:
            return Fetched(open_revision_archive(services.db, services.stores, wanted), "")
        return git.fetch(wanted, credential_of(project_id, wanted), interrupt, cache)

    return fetch


def credential_opener(services: Services) -> Callable[[int, SourceSettings], GitCredential | None]:
    """What opens the credential of a project's git source; it raises ExecutorError while that cannot be."""
    sealer = services.stores.server_keyring()

    def opened(project_id: int, wanted: SourceSettings) -> GitCredential | None:
        try:
            with services.db.read() as session:
                return open_credential(session, sealer, project_id, wanted)
        except StorageError as error:
            raise ExecutorError(f"the credential of {wanted.location} does not open now: {error}") from error

    return opened
