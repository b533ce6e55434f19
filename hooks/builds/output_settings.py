"""What a project says of artifacts and caches: CodeBuild's ``artifacts``, ``secondaryArtifacts`` and ``cache``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

STORE, NO_ARTIFACTS, CODEPIPELINE = "STORE", "NO_ARTIFACTS", "CODEPIPELINE"
_TYPES = {STORE: STORE, "S3": STORE, NO_ARTIFACTS: NO_ARTIFACTS, CODEPIPELINE: CODEPIPELINE}
_PACKAGINGS = ("ZIP", "NONE")
LOCAL = "LOCAL"
_CACHE_TYPES = ("NO_CACHE", STORE, "S3", LOCAL)
CUSTOM_CACHE, SOURCE_CACHE, LAYER_CACHE = LOCAL_MODES = (
    "LOCAL_CUSTOM_CACHE",
    "LOCAL_SOURCE_CACHE",
    "LOCAL_DOCKER_LAYER_CACHE",
)
"""CodeBuild's modes of local caches."""
LAYER_WARNING = f"{LAYER_CACHE} has no effect: no layers are kept for Docker in a build"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")


@dataclass(frozen=True, slots=True)
class ArtifactSettings:
    """One artifact of a project. ``name`` "" is the project's name.

    The buildspec's name counts only with ``overrides_name``. ``packaging`` NONE shows the members instead of the zip,
    which is what is kept in both cases.
    """

    type: str = STORE
    name: str = ""
    packaging: str = "ZIP"
    overrides_name: bool = True


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What becomes of the outputs of a project's builds.

    ``secondary`` is None where the project names none: then the buildspec's own are all taken. ``cache_namespace`` is
    what projects have in common that share their caches; "" for caches of the project's own. ``modes`` are LOCAL_MODES
    of caches on the machine that runs the build; None for caches in the store.
    """

    primary: ArtifactSettings = ArtifactSettings()
    secondary: Mapping[str, ArtifactSettings] | None = None
    caches: bool = True
    cache_namespace: str = ""
    modes: tuple[str, ...] | None = None

    @property
    def is_local(self) -> bool:
        """Whether the buildspec's cache stays on the machine that runs the build."""
        return self.modes is not None and CUSTOM_CACHE in self.modes

    @property
    def caches_sources(self) -> bool:
        """Whether what git fetches stays on the machine."""
        return self.modes is not None and SOURCE_CACHE in self.modes

    @property
    def without_caches(self) -> str:
        """Why the buildspec's cache is not used, where ``caches`` is False."""
        return "NO_CACHE" if self.modes is None else f"a local cache without {CUSTOM_CACHE}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the project says of caches without effect."""
        has = self.modes is not None and LAYER_CACHE in self.modes
        return (LAYER_WARNING,) if has else ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> OutputSettings:
        """From a project's document, which ``output_faults`` finds nothing wrong with; what is left out has defaults."""
        listed = document.get("secondaryArtifacts")
        secondary = None
        if listed:
            secondary = {entry["artifactIdentifier"]: _artifact(entry) for entry in listed}
        cache = document.get("cache") or {}
        # Without any mode it is the buildspec's paths that are meant.
        modes = tuple(cache.get("modes") or (CUSTOM_CACHE,)) if cache.get("type") == LOCAL else None
        return cls(
            _artifact(document["artifacts"]) if document.get("artifacts") else ArtifactSettings(),
            secondary,
            cache.get("type", STORE) != "NO_CACHE" and (modes is None or CUSTOM_CACHE in modes),
            cache.get("cacheNamespace", ""),
            modes,
        )


def handed_on(settings: OutputSettings) -> OutputSettings:
    """The settings of a build whose artifacts a pipeline hands on: CODEPIPELINE, whatever the project says (CodeBuild)."""
    return replace(settings, primary=replace(settings.primary, type=CODEPIPELINE), secondary=None)


def output_faults(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a project's ``artifacts``, ``secondaryArtifacts`` and ``cache``, one line each."""
    faults = _artifact_faults(document.get("artifacts") or {}, "artifacts")
    seen: set[str] = set()
    for entry in document.get("secondaryArtifacts") or ():
        identifier = entry.get("artifactIdentifier", "")
        where = f"secondaryArtifacts {identifier or '(without artifactIdentifier)'}"
        faults += _artifact_faults(entry, where)
        if not is_identifier(identifier):
            faults.append(f"{where}: artifactIdentifier has letters, digits, '_' and '-', and is not 'primary'")
        elif identifier in seen:
            faults.append(f"{where} is there twice")
        seen.add(identifier)
    cache = document.get("cache") or {}
    if cache.get("type", STORE) not in _CACHE_TYPES:
        faults.append(f"cache: type must be one of {', '.join(_CACHE_TYPES)}")
    modes = cache.get("modes") or ()
    if not isinstance(modes, list | tuple) or not set(map(str, modes)) <= set(LOCAL_MODES):
        faults.append(f"cache: modes are of {', '.join(LOCAL_MODES)}")
    namespace = cache.get("cacheNamespace", "")
    if namespace and not _NAMESPACE.match(str(namespace)):
        faults.append("cache: cacheNamespace has letters, digits, '.', '-' and '_', at most 100")
    return faults


def is_identifier(text: str) -> bool:
    """Whether a secondary artifact may be called so."""
    return bool(_IDENTIFIER.match(text)) and text != "primary"


def _artifact(entry: Mapping[str, Any]) -> ArtifactSettings:
    return ArtifactSettings(
        _TYPES[entry.get("type", STORE)],
        entry.get("name", "").strip("/"),
        entry.get("packaging", "ZIP"),
        bool(entry.get("overrideArtifactName", False)),
    )


def _artifact_faults(entry: Mapping[str, Any], where: str) -> list[str]:
    faults = []
    if entry.get("type", STORE) not in _TYPES:
        faults.append(f"{where}: type must be one of {', '.join(_TYPES)}")
    if entry.get("packaging", "ZIP") not in _PACKAGINGS:
        faults.append(f"{where}: packaging must be NONE or ZIP")
    if entry.get("encryptionDisabled"):
        faults.append(f"{where}: encryptionDisabled: what this server keeps is always encrypted")
    return faults
