"""What versions need, read back from how each format wrote it down."""

import pytest

from registry.format import Dependency
from registry.formats.generic import FORMAT as GENERIC
from registry.formats.maven import FORMAT as MAVEN
from registry.formats.npm import FORMAT as NPM
from registry.formats.npm.manifest import page_metadata
from registry.formats.pypi import FORMAT as PYPI


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("requests>=2.31", Dependency("", "requests", "Requires-Dist", ">=2.31")),
        ("Flask", Dependency("", "Flask", "Requires-Dist", "")),
        (
            'tomli<3,>=1; python_version < "3.11"',
            Dependency("", "tomli", 'Requires-Dist; python_version < "3.11"', "<3,>=1"),
        ),
        ("here @ https://example.org/a.whl", Dependency("", "here", "Requires-Dist", "https://example.org/a.whl")),
        ("not a requirement!", None),
    ],
)
def test_python(written: str, expected: Dependency | None) -> None:
    assert PYPI.dependency(written) == expected


def test_npm_as_its_manifests_are_written_down() -> None:
    manifest = {
        "dependencies": {"@acme/base": "^1.0.0", "plain": ">=1 <3"},
        "peerDependencies": {"react": "18 || 19"},
        "optionalDependencies": {"fsevents": "~2.3.2"},
    }
    written = page_metadata(manifest, "README.md")["requires_dist"]
    assert [NPM.dependency(entry) for entry in written] == [
        Dependency("acme", "base", "regular", "^1.0.0"),
        Dependency("", "plain", "regular", ">=1 <3"),
        Dependency("", "react", "peer", "18 || 19"),
        Dependency("", "fsevents", "optional", "~2.3.2"),
    ]
    assert NPM.dependency(".hidden ^1") is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("com.acme:lib:1.0", Dependency("com.acme", "lib", "compile", "1.0")),
        ("junit:junit (test)", Dependency("junit", "junit", "test", "")),
        ("a:b:[1.0,2.0) (provided, optional)", Dependency("a", "b", "provided, optional", "[1.0,2.0)")),
        ("nonsense", None),
    ],
)
def test_maven(written: str, expected: Dependency | None) -> None:
    assert MAVEN.dependency(written) == expected


def test_files_need_nothing() -> None:
    assert GENERIC.dependency("anything") is None
