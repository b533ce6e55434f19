"""``nativePackage`` of deployment groups, and which file of a version a machine wants."""

import json
import platform
import sys

import pytest

from hooks.deployments.documents.group import parse_group
from hooks.deployments.documents.native import NativeDocument, NativeScript, parse_native
from registry.errors import InvalidDocument
from registry.formats.npm.native import NpmInstaller
from registry.formats.pypi.native import PythonInstaller
from registry.native import InstallFault, NativeVersion

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
