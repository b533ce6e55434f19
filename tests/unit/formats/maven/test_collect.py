"""What an artifact runs with, by POMs at hand: Maven's mediation, scopes, management, inheritance and ranges."""

from collections.abc import Mapping

import pytest

from registry.formats.maven import collect
from registry.formats.maven.collect import Collector, Unsolvable
from registry.formats.maven.effective import Coordinates, Lacking, Poms
from registry.formats.maven.pom_tree import BadPom, Machine
from registry.formats.maven.version_ranges import parse_range


def needs(*wanted: str) -> str:
    """``artifact:version[:scope]`` each; more elements behind a ``|``."""
    found = []
    for each in wanted:
        written, _, more = each.partition("|")
        artifact, version, scope, *_ = [*written.split(":"), "", ""]
        found.append(
            f"<dependency><groupId>g</groupId><artifactId>{artifact}</artifactId>"
            f"{f'<version>{version}</version>' if version else ''}{f'<scope>{scope}</scope>' if scope else ''}{more}</dependency>"
        )
    return f"<dependencies>{''.join(found)}</dependencies>"


def manages(*wanted: str) -> str:
    return f"<dependencyManagement>{needs(*wanted)}</dependencyManagement>"


def excludes(*wanted: str) -> str:
    return "<exclusions>{}</exclusions>".format(
        "".join(f"<exclusion><groupId>g</groupId><artifactId>{each}</artifactId></exclusion>" for each in wanted)
    )


def child_of(parent: str) -> str:
    artifact, version = parent.split(":")
    return f"<parent><groupId>g</groupId><artifactId>{artifact}</artifactId><version>{version}</version></parent>"


def collected(poms: Mapping[str, str], *, versions: Mapping[str, list[str]] | None = None, java: str = "17.0.1") -> str:
    """What ``app:1`` runs with. Every artifact that is named has a POM, unless it is said to have none."""

    def read(at: Coordinates) -> bytes | None:
        text = poms.get(f"{at.artifact}:{at.version}", "")
        if text == "none":
            return None
        return text.encode() if text.startswith("<!") else f"<project>{text}</project>".encode()

    read_poms = Poms(read, Machine(java))
    root = read_poms.effective(Coordinates("g", "app", "1"))
    assert root is not None
    found = Collector(read_poms, lambda _, artifact: (versions or {}).get(artifact, []), root).collect()
    return " ".join(
        f"{each.at.artifact}:{each.at.version}{f':{each.classifier}' if each.classifier else ''}"
        for each in found.artifacts
    )


@pytest.mark.parametrize(
    ("expected", "poms"),
    [
        # The nearest counts, of two as near the first; the class path goes down from each in turn.
        ("a:1 c:1 b:1 d:1", {"app:1": needs("a:1", "b:1"), "a:1": needs("c:1"), "b:1": needs("c:2", "d:1")}),
        ("a:1 b:1 x:2", {"app:1": needs("a:1", "x:2"), "a:1": needs("b:1"), "b:1": needs("x:1")}),
        # What a version that lost needs does not count.
        ("a:1 x:2", {"app:1": needs("a:1", "x:2"), "a:1": needs("x:1"), "x:1": needs("old:1")}),
        # Scopes: what only tests or compiles is left out, also of dependencies; the widest way counts.
        ("a:1 r:1 s:1", {"app:1": needs("t:1:test", "p:1:provided", "a:1", "r:1:runtime"), "t:1": needs("u:1"),
                         "a:1": needs("v:1:test", "w:1:provided"), "r:1": needs("s:1")}),
        ("x:1 a:1", {"app:1": needs("t:1:test", "a:1"), "t:1": needs("x:1"), "a:1": needs("x:2")}),
        ("a:1", {"app:1": needs("a:1", "x:1:test"), "a:1": needs("x:2")}),
        # Optional ones are the artifact's own affair, exclusions hold all the way down.
        ("a:1 o:1", {"app:1": needs("a:1", "o:1|<optional>true</optional>"), "a:1": needs("q:1|<optional>true</optional>")}),
        ("a:1 b:1", {"app:1": needs("a:1|" + excludes("x", "y")), "a:1": needs("b:1", "y:1"), "b:1": needs("x:1")}),
        ("a:1", {"app:1": needs("a:1|" + excludes("*")), "a:1": needs("b:1", "c:1")}),
        # What the artifact manages counts for all but what it names; what a dependency manages for its own alone.
        ("a:1 x:9", {"app:1": manages("a:9", "x:9") + needs("a:1"), "a:1": needs("x:1")}),
        ("a:1 b:1 x:1", {"app:1": needs("a:1"), "a:1": manages("x:9", "b:1") + needs("b:"), "b:1": needs("x:1")}),
        ("a:1", {"app:1": manages("x:1:test") + needs("a:1"), "a:1": needs("x:1")}),
        # Parents, properties, and management that is imported; what is written itself comes first.
        ("a:3 b:7", {"app:1": child_of("top:5") + "<properties><b>7</b></properties>" + needs("a:"),
                     "top:5": "<properties><b>6</b><a>${own}</a><own>3</own></properties>" + manages("a:${a}") + needs("b:${b}")}),
        ("a:2 b:5", {"app:1": manages("bom:1:import|<type>pom</type>", "b:5") + needs("a:", "b:"),
                     "bom:1": child_of("above:4") + manages("a:2", "b:3"), "above:4": manages("a:1")}),
        ("lib:1", {"app:1": "<groupId>g</groupId><version>1</version>" + needs("lib:${project.version}")}),
        # Profiles that are on by themselves.
        ("j:1", {"app:1": "<profiles><profile><activation><jdk>[9</jdk></activation>" + needs("j:1") + "</profile><profile>"
                          "<activation><jdk>1.8</jdk></activation>" + needs("k:1") + "</profile><profile><activation>"
                          "<activeByDefault>true</activeByDefault></activation>" + needs("l:1") + "</profile></profiles>"}),
        # What has moved, what has no POM, what is no jar, and what is none at all.
        ("new:1 n:1", {"app:1": needs("old:1", "n:1"), "n:1": "none", "old:1": "<distributionManagement><relocation>"
                       "<artifactId>new</artifactId></relocation></distributionManagement>"}),
        ("a:1:tests", {"app:1": needs("p:1|<type>pom</type>", "a:1|<type>test-jar</type>")}),
        ("a:1", {"app:1": needs("a:1"), "a:1": "<!DOCTYPE x [<!ENTITY a 'b'>]><project/>"}),
        ("a:1 b:1", {"app:1": needs("a:1"), "a:1": "<name>&oslash;</name>" + needs("b:1"), "b:1": needs("a:2")}),
    ],
)  # fmt: skip
def test_the_class_path_is_the_one_of_the_artifacts_own_build(expected: str, poms: dict[str, str]) -> None:
    assert collected(poms) == expected


def test_a_range_is_the_highest_version_in_it_and_holds_for_all() -> None:
    versions = {"x": ["1.0", "1.5", "2.0", "1.10"]}
    assert collected({"app:1": needs("x:[1.0,2.0)")}, versions=versions) == "x:1.10"
    # A wish that a range further down does not hold gives way to one that it does.
    poms = {"app:1": needs("a:1", "b:1"), "a:1": needs("x:2.0"), "b:1": needs("x:[1.0,2.0)")}
    assert collected(poms, versions=versions) == "a:1 b:1 x:1.10"
    with pytest.raises(Unsolvable, match="all ranges"):
        collected(
            {"app:1": needs("a:1", "b:1"), "a:1": needs("x:[1.0,2.0)"), "b:1": needs("x:[2.0]")}, versions=versions
        )
    with pytest.raises(Unsolvable, match="no such version"):
        collected({"app:1": needs("x:(2.0,)")}, versions=versions)
    assert [each in parse_range("(,1.0],[1.2,)") for each in ("0.9", "1.0", "1.1", "1.2", "9")] == [
        True, True, False, True, True
    ]  # fmt: skip
    for wrong in ("[1.0", "(1.0)", "[1,2", "[]", "[1,2)x"):
        with pytest.raises(ValueError, match="no range"):
            parse_range(wrong)


@pytest.mark.parametrize(
    ("fault", "words", "poms"),
    [
        (Lacking, "its parent g:top:1 is not in the repository", {"app:1": child_of("top:1"), "top:1": "none"}),
        (Lacking, "imports the dependency management of g:bom:1",
         {"app:1": manages("bom:1:import|<type>pom</type>"), "bom:1": "none"}),
        (BadPom, "circle of parents", {"app:1": child_of("top:1"), "top:1": child_of("top:1")}),
        (BadPom, "imports in a circle", {"app:1": manages("app:1:import|<type>pom</type>")}),
        (BadPom, "lead to no end", {"app:1": "<properties><a>${b}x</a><b>${a}</b></properties>" + needs("x:${a}")}),
        (BadPom, "stands for more than 20000 characters",
         {"app:1": f"<properties><a>{'x' * 10_000}</a></properties>" + needs("x:" + "${a}" * 500)}),
        (BadPom, "stand for more than 4000000 characters",
         {"app:1": f"<properties><a>{'x' * 19_000}</a></properties>" + needs(*(f"x{each}:${{a}}{each}" for each in range(220)))}),
        (Unsolvable, "at most 2000 are read", {"app:1": needs(f"x:[{'9' * 5000},)")}),
        (Unsolvable, "at most 2000 are read", {"app:1": needs("x:" + "[1]," * 1000 + "[2]")}),
        (Unsolvable, "wanted in no version", {"app:1": needs("x:")}),
        (Unsolvable, "moves in a circle", {"app:1": needs("x:1"), "x:1": "<distributionManagement><relocation><version>2"
         "</version></relocation></distributionManagement>", "x:2": "<distributionManagement><relocation><version>1</version>"
         "</relocation></distributionManagement>"}),
        # Names that would lead to another place.
        (BadPom, "is no artifact", {"app:1": needs("x:../../../../etc")}),
        (BadPom, "is no artifact", {"app:1": needs("x:${user.home}")}),
        (BadPom, "is no artifact", {"app:1": needs("..:1")}),
        (BadPom, "no classifier and no type", {"app:1": needs("x:1|<classifier>a/../../b</classifier>")}),
        (BadPom, "no classifier and no type", {"app:1": needs("x:1|<type>jar?a=b</type>")}),
        (BadPom, "not XML", {"app:1": "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><project>&a;</project>"}),
        (BadPom, "root is not", {"app:1": "<!-- --><settings/>"}),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said(fault: type[Exception], words: str, poms: dict[str, str]) -> None:
    with pytest.raises(fault, match=words):
        collected(poms)


def test_ways_to_the_same_artifact_are_not_followed_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    poms = {"app:1": needs("a:1", "b:1"), "a:1": needs("x:1"), "b:1": needs("x:1")}
    monkeypatch.setattr(collect, "MOST_DEPENDENCIES", 4)
    assert collected(poms) == "a:1 x:1 b:1"
    monkeypatch.setattr(collect, "MOST_DEPENDENCIES", 3)
    with pytest.raises(Unsolvable, match="more than 3 dependencies"):
        collected(poms)
