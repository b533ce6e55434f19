"""How the sources of builds are fetched on this machine: git in a sandbox behind the guarded proxy, uploads from the store."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

from config.settings import Settings
from hooks.builds.bundles import FetchInput
from hooks.builds.credentials import open_credential
from hooks.builds.egress import Egress
from hooks.builds.executor import ExecutorError, Interrupt
from hooks.builds.executors.process import ProcessExecutor, ProcessSettings
from hooks.builds.git_fetch import Fetched, GitFetcher, GitRules
from hooks.builds.handing_over import open_artifact
from hooks.builds.project import SourceSettings, SourceType
from hooks.builds.source import PackageSource
from hooks.builds.uploads import open_upload
from registry.services import Services
from registry.upstream.guard import AddressPolicy
from storage.errors import StorageError


def input_fetcher(settings: Settings, services: Services, builds: ProcessSettings) -> FetchInput:
    """What brings a build's inputs. Its sandboxes are those of ``builds``, but for where they can reach."""
    policy = AddressPolicy(tuple(ipaddress.ip_network(text) for text in settings.upstream.allowed_networks))
    directories = settings.builds.git_directories
    limits = replace(builds.limits, processes=min(builds.limits.processes, 128))
    executor = ProcessExecutor(
        replace(builds, registry_address=Egress(policy).connect, readonly_paths=directories, limits=limits)
    )
    git = GitFetcher(executor, GitRules(settings.builds.git_schemes, directories), builds.work_dir)
    sealer = services.stores.server_keyring()

    def fetch(project_id: int, _source: PackageSource, wanted: SourceSettings, interrupt: Interrupt) -> Fetched:
        if wanted.type is SourceType.UPLOAD:
            return Fetched(open_upload(services.db, services.stores, project_id, wanted.location, wanted.version), "")
        if wanted.type is SourceType.ARTIFACT:
            return Fetched(open_artifact(services.db, services.stores, wanted), "")
        try:
            with services.db.read() as session:
                credential = open_credential(session, sealer, project_id, wanted)
        except StorageError as error:
            raise ExecutorError(f"the credential of {wanted.location} does not open now: {error}") from error
        return git.fetch(wanted, credential, interrupt)

    return fetch
