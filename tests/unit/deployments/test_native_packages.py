"""``nativePackage`` of deployment groups, and which file of a version a machine wants."""

import io
import json
import platform
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hooks.deployments.documents.group import parse_group
from hooks.deployments.documents.native import NativeDocument, NativeScript, parse_native
from hooks.deployments.host.bundle import BundleError
from hooks.deployments.host.native import NativePackage, Sources, make_bundle
from hooks.deployments.host.script_log import ScriptLog
from hooks.deployments.outcomes import ErrorCode, EventFailed
from hooks.deployments.repository_tokens import token_name
from registry.errors import InvalidDocument
from registry.formats.npm.native import NpmInstaller, _check_lock
from registry.formats.pypi.native import PythonInstaller
from registry.native import Installation, InstallFault, NativeVersion

SHOP = NativeVersion("", "shop", "1.0")
WHEEL, SOURCE = "shop-1.0-py3-none-any.whl", "shop-1.0.tar.gz"


def test_a_group_keeps_what_the_agent_reads_again() -> None:
    text = """
nativePackage:
  link: /srv//shop/current/
  runPackageCode: yes
  hooks:
    ApplicationStart: "echo \\U0001F600\\n"
    ApplicationStop: [systemctl, stop, shop]
    ValidateService: {run: 'true', timeout: 30, runas: www-data}
"""
    kept = json.loads(json.dumps(parse_group(text).document["nativePackage"]))
    assert parse_native(kept) == NativeDocument(
        "/srv/shop/current",
        {
            "ApplicationStart": NativeScript("echo \U0001f600\n", (), 3600, ""),
            "ApplicationStop": NativeScript("", ("systemctl", "stop", "shop"), 3600, ""),
            "ValidateService": NativeScript("true", (), 30, "www-data"),
        },
        runs_package_code=True,
    )


def test_all_faults_are_told_at_once() -> None:
    text = """
nativePackage:
  link: relative
  colour: red
  hooks:
    Install: echo
    ApplicationStop: []
    BeforeInstall: {timeout: 0}
    ValidateService: {run: x, runas: "a b"}
"""
    with pytest.raises(InvalidDocument) as caught:
        parse_group(text)
    for words in (
        "nativePackage.link has to be an absolute path",
        "nativePackage.colour is unknown",
        "hooks.Install: no script runs there",
        "hooks.ApplicationStop is empty",
        "hooks.BeforeInstall.run is missing",
        "hooks.ValidateService.runas is no name",
    ):
        assert any(words in fault for fault in caught.value.faults), (words, caught.value.faults)


def _wheel(place: Path, requirement: str) -> Path:
    with zipfile.ZipFile(place, "w") as wheel:
        wheel.writestr("shop-1.0.dist-info/METADATA", f"Name: shop\nVersion: 1.0\nRequires-Dist: {requirement}\n\ntext")
    return place


def _tarball(place: Path, **files: object) -> Path:
    with tarfile.open(place, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name.replace('_', '-')}.json")
            entry.size = len(data := json.dumps(content).encode())
            archive.addfile(entry, io.BytesIO(data))
    return place


class _Ran(Exception):
    """The tool would have been started."""


def _install(installer: NpmInstaller | PythonInstaller, file: Path, place: Path) -> None:
    def run(*_: object) -> None:
        raise _Ran

    @contextmanager
    def secret(_: str) -> Iterator[str]:
        yield "/dev/null"

    shutil.rmtree(place / "environment", ignore_errors=True)
    wanted = {
        "files": (file,),
        "environment": place / "environment",
        "scratch": place,
        "stable_path": "/srv/shop/current",
    }
    wanted |= {"repository_url": "http://127.0.0.1:1/", "token": "t", "authorities": "", "runs_package_code": False}
    installer.install(Installation(version=SHOP, run=run, secret_file=secret, **wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("requirement", "is_taken"),
    [
        ("rich (>=13); python_version >= '3.8'", True),
        ("rich @ https://elsewhere.example/rich.tar.gz", False),
        ("rich @ git+https://elsewhere.example/rich", False),
        ("rich @ git+https://elsewhere.example/rich ; extra == 'x'", True),
    ],
)
def test_a_wheel_that_says_where_a_requirement_lies_is_refused(
    tmp_path: Path, requirement: str, is_taken: bool
) -> None:
    wheel = _wheel(tmp_path / WHEEL, requirement)
    with pytest.raises(_Ran) if is_taken else pytest.raises(InstallFault, match="from the repository alone"):
        _install(PythonInstaller(), wheel, tmp_path)


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
@pytest.mark.parametrize(
    ("files", "is_taken"),
    [
        ({"package": {"dependencies": {"a": "^1.0 || 2.x - 3", "b": "npm:@x/y@1", "c": "latest"}}}, True),
        ({"package": {"devDependencies": {"a": "https://elsewhere.example/a.tgz"}}}, True),
        ({"package": {"dependencies": {"a": "https://elsewhere.example/a.tgz"}}}, False),
        ({"package": {"optionalDependencies": {"a": "somebody/a"}}}, False),
        ({"package": {"peerDependencies": {"a": "git+ssh://elsewhere.example/a"}}}, False),
        ({"package": {}, "npm_shrinkwrap": {}}, False),
    ],
)
def test_an_npm_package_that_says_where_a_dependency_lies_is_refused(
    tmp_path: Path, files: dict[str, object], is_taken: bool
) -> None:
    tarball = _tarball(tmp_path / "shop-1.0.tgz", **files)
    with pytest.raises(_Ran) if is_taken else pytest.raises(InstallFault, match="from the repository alone"):
        _install(NpmInstaller(), tarball, tmp_path)


def test_what_an_installer_cannot_understand_is_a_fault_of_the_package(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / WHEEL, 'rich @ https://elsewhere.example/rich.whl ; python_version ~= "3"')
    with pytest.raises(InstallFault, match="nobody can tell whether it requires rich"):
        _install(PythonInstaller(), wheel, tmp_path)
    with tarfile.open(tarball := tmp_path / "shop-1.0.tgz", "w:gz") as archive:
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(data := b"[" * 200_000)
        archive.addfile(entry, io.BytesIO(data))
    if shutil.which("npm") is not None:
        with pytest.raises(InstallFault, match="cannot be read"):
            _install(NpmInstaller(), tarball, tmp_path)


class _Odd(NpmInstaller):
    """Meets what it was not made for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def choose(self, *_: object, **__: object) -> list[str]:
        raise self.error


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (LookupError("odd"), BundleError),
        (RecursionError(), BundleError),
        (InstallFault("no such file"), BundleError),
        (OSError("full"), OSError),
        (EventFailed(ErrorCode.SCRIPT_TIMED_OUT, "too long"), EventFailed),
    ],
)
def test_a_package_nobody_has_thought_of_fails_and_is_not_tried_for_ever(
    tmp_path: Path, met: Exception, told: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    package = NativePackage(SHOP, {}, "http://127.0.0.1:1/", parse_native({"link": "/srv/shop/current"}))
    log = ScriptLog(tmp_path / "logs" / "native.log", lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda _: None)
    with pytest.raises(told) as caught:
        make_bundle(package, _Odd(met), Sources(lambda *_: None, lambda: ""), tmp_path / "made", log)
    log.close()
    assert not (tmp_path / "made").exists()
    if isinstance(met, LookupError | RecursionError):
        assert str(caught.value).startswith("shop 1.0 cannot be installed: ")
        assert f"shop 1.0 cannot be installed: {type(met).__name__}" in caplog.text


def test_what_is_said_to_lie_in_an_archive_is_not_fetched_from_elsewhere(tmp_path: Path) -> None:
    lock, here = tmp_path / "package-lock.json", "http://127.0.0.1:1/npm/"
    bundled: dict[str, object] = {"version": "1.0.0", "inBundle": True}
    lock.write_text(json.dumps({"packages": {"": {}, "node_modules/a": bundled}}))
    _check_lock(lock, here, tmp_path / "shop-1.0.tgz")
    bundled["resolved"] = "https://elsewhere.example/a.tgz"
    lock.write_text(json.dumps({"packages": {"": {}, "node_modules/a": bundled}}))
    with pytest.raises(InstallFault, match=r"would be taken from https://elsewhere\.example"):
        _check_lock(lock, here, tmp_path / "shop-1.0.tgz")


def test_the_names_of_tokens_fit_and_differ() -> None:
    assert token_name("d-1", "web-1") == "deployment d-1 on web-1"
    one, other = (token_name("d-1", "x" * 99 + end) for end in "ab")
    assert len(one) == len(other) == 100
    assert one != other


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "link is missing"),
        ({"link": "/srv/a b/current"}, "at most 100 of letters"),
        ({"link": "/srv/" + "x" * 100}, "at most 100 of letters"),
        ({"link": "/srv/a/../current"}, "absolute path"),
        ({"link": "/srv/shop", "hooks": {"ApplicationStart": "x" * 16_000}}, "at most 16000 characters"),
    ],
)
def test_what_is_signed_is_checked_again(document: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidDocument, match=words):
        parse_native(document)


def test_the_wheel_for_this_machine_is_chosen() -> None:
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    own = f"shop-1.0-{tag}-{tag}-linux_{platform.machine()}.whl"
    choose = PythonInstaller().choose
    others = ["shop-1.0-cp27-cp27m-win32.whl", "strange.whl", SOURCE]
    assert choose(SHOP, [*others, WHEEL], runs_package_code=False) == (WHEEL,)
    assert choose(SHOP, [*others, WHEEL, own], runs_package_code=False) == (own,)
    assert choose(SHOP, others, runs_package_code=True) == (SOURCE,)
    with pytest.raises(InstallFault, match="runPackageCode"):
        choose(SHOP, others, runs_package_code=False)
    with pytest.raises(InstallFault, match="has no wheel"):
        choose(SHOP, others[:2], runs_package_code=True)


def test_a_package_has_one_tarball() -> None:
    assert NpmInstaller().choose(SHOP, ["shop-1.0.tgz"], runs_package_code=False) == ["shop-1.0.tgz"]
    with pytest.raises(InstallFault, match="2 tarballs"):
        NpmInstaller().choose(SHOP, ["a.tgz", "b.tgz"], runs_package_code=False)
