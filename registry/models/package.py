"""Package → version → asset → blob. The asset row is the commit mark: what has none was never published.

Promotion copies package, version and asset rows to another repository of the domain; the blob row is shared.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from registry.db import Base, UtcDateTime

# Where a package or version came from; of a package that got its origin controls before its first version: nowhere yet.
PUBLISHED = "published"
UPSTREAM = "upstream"
PREPARED = "prepared"

# What an origin control says.
ALLOW = "ALLOW"
BLOCK = "BLOCK"


def default_controls(origin: str) -> tuple[str, str]:
    """The origin controls (publish, upstream) that a package begins with, by how its first version came."""
    return (BLOCK, ALLOW) if origin == UPSTREAM else (ALLOW, BLOCK)


def _default_publish(context: Any) -> str:
    return default_controls(context.get_current_parameters()["origin"])[0]


def _default_upstream(context: Any) -> str:
    return default_controls(context.get_current_parameters()["origin"])[1]


def new_revision() -> str:
    """A revision that nothing had before."""
    return secrets.token_urlsafe(24)


class Package(Base):
    """A name in a repository. ``origin`` is ``published`` (here or promoted here) or ``upstream`` (kept by reference).

    It is set by how the first version arrived, ``prepared`` before one has, and ``published`` from the first one on that
    is published: an ``upstream`` package holds nothing of ours. ``publish`` and ``upstream`` are its
    origin controls, ``ALLOW`` or ``BLOCK`` (``registry.repos.origins`` has the rules); what is not said begins as
    ``default_controls`` has it. ``status`` is what its owners say of it: ``active``, ``archived`` (no further versions),
    ``deprecated`` or ``quarantined`` (nothing is listed or served), with a reason for people, which may be empty.

    ``has_states`` says that some version of it may be in a state of ``registry.repos.states.WITHHELD``: of all others
    no reader asks.
    """

    __tablename__ = "package"
    __table_args__ = (UniqueConstraint("repository_id", "format", "namespace", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id"))
    format: Mapped[str] = mapped_column(String(32))
    namespace: Mapped[str] = mapped_column(String(255), default="")
    name: Mapped[str] = mapped_column(String(255))
    display_name: Mapped[str] = mapped_column(String(255))
    origin: Mapped[str] = mapped_column(String(16))
    publish: Mapped[str] = mapped_column(String(8), default=_default_publish, server_default=BLOCK)
    upstream: Mapped[str] = mapped_column(String(8), default=_default_upstream, server_default=BLOCK)
    status: Mapped[str] = mapped_column(String(16), default="active", server_default="active")
    status_reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    has_states: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PackageVersion(Base):
    """A version of a package in one repository.

    ``version`` is canonical (unique), ``display_version`` as published. ``metadata_`` is what the format read from the
    archive (its own shape, passed on unread); the long ``description`` is sealed (``registry.repos.descriptions``).
    ``promoted_from`` is the repository's name it was copied from. ``status`` is CodeArtifact's word
    (``registry.repos.states``). ``deprecated`` is a warning for those who install it (empty while there is none); unlike
    a yank it takes nothing out of an index.

    ``revision`` names this set of files and metadata: every change of the row, and each file that comes or goes, makes
    another one, a change of state alone does not. ``open_until`` lets files be added to a frozen version.
    """

    __tablename__ = "package_version"
    __table_args__ = (UniqueConstraint("package_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    package_id: Mapped[int] = mapped_column(ForeignKey("package.id"))
    version: Mapped[str] = mapped_column(String(255))
    display_version: Mapped[str] = mapped_column(String(255))
    summary: Mapped[str] = mapped_column(Text, default="")
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", JSON)
    description: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    description_type: Mapped[str] = mapped_column(String(100), default="", server_default="")
    origin: Mapped[str] = mapped_column(String(16))
    promoted_from: Mapped[str | None] = mapped_column(String(100))
    yanked_reason: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default="Published", server_default="Published", index=True)
    revision: Mapped[str] = mapped_column(String(64), default=new_revision, onupdate=new_revision, server_default="")
    open_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    deprecated: Mapped[str] = mapped_column(Text, default="", server_default="")
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
    published_by: Mapped[str] = mapped_column(String(100))


class Asset(Base):
    """A file of a version, unique by name (a path where the format has folders) within its package.

    ``package_id`` repeats the version's package so that the database itself keeps file names unique per package.
    ``hashes`` holds further digests (hex) by algorithm; ``extra`` what the format needs to list the file;
    ``metadata_blob_id`` the metadata document the format extracted from the file, where it serves one;
    ``provenance_blob_id`` what whoever published the file attested of where it came from.
    """

    __tablename__ = "asset"
    __table_args__ = (UniqueConstraint("package_id", "filename"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    package_id: Mapped[int] = mapped_column(ForeignKey("package.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("package_version.id"), index=True)
    filename: Mapped[str] = mapped_column(String(1000))
    blob_id: Mapped[int] = mapped_column(ForeignKey("blob.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    hashes: Mapped[dict[str, str]] = mapped_column(JSON)
    extra: Mapped[dict[str, Any]] = mapped_column(JSON)
    metadata_blob_id: Mapped[int | None] = mapped_column(ForeignKey("blob.id"), index=True)
    provenance_blob_id: Mapped[int | None] = mapped_column(
        ForeignKey("blob.id", name="fk_asset_provenance_blob_id"), index=True
    )
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)
    published_by: Mapped[str] = mapped_column(String(100))


class PackageTag(Base):
    """A name that points at a version of a package and moves (npm's dist-tags), in one repository."""

    __tablename__ = "package_tag"

    package_id: Mapped[int] = mapped_column(ForeignKey("package.id"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(255), primary_key=True)
    version: Mapped[str] = mapped_column(String(255))


class Blob(Base):
    """A body in the domain's store: at most one for each digest. All of a ``storage.blobs.BlobHandle`` is here."""

    __tablename__ = "blob"
    __table_args__ = (UniqueConstraint("domain_id", "sha256"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    locator: Mapped[str] = mapped_column(String(64), unique=True)
    envelope: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PackageState(Base):
    """Counts the changes under a name in a whole domain, so that a rendered document knows whether it still holds."""

    __tablename__ = "package_state"

    domain_id: Mapped[int] = mapped_column(ForeignKey("domain.id"), primary_key=True)
    format: Mapped[str] = mapped_column(String(32), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(255), primary_key=True, default="")
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    revision: Mapped[int] = mapped_column(default=1)


class RetiredFilename(Base):
    """The name of a deleted file: it never comes back with other bytes."""

    __tablename__ = "retired_filename"

    package_id: Mapped[int] = mapped_column(ForeignKey("package.id"), primary_key=True)
    filename: Mapped[str] = mapped_column(String(1000), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    retired_at: Mapped[datetime] = mapped_column(UtcDateTime)


class PromisedDigest(Base):
    """A digest that a client sent apart from its file, held while the file is not here or is another one.

    ``digest`` is lower-case hex, or empty where any file of that name will do. A version is not finished while one of
    its files is not what was promised of it.
    """

    __tablename__ = "promised_digest"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id", ondelete="CASCADE"), primary_key=True)
    format: Mapped[str] = mapped_column(String(32), primary_key=True)
    namespace: Mapped[str] = mapped_column(String(255), primary_key=True, default="")
    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    filename: Mapped[str] = mapped_column(String(1000), primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(16), primary_key=True)
    version: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(128))
    promised_at: Mapped[datetime] = mapped_column(UtcDateTime)
