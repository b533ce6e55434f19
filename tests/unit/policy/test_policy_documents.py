"""Policy documents and the evaluator: what is read, what is refused, and who may do what, against a second opinion."""

import fnmatch
import re
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import Invalid
from registry.names import PackageKey, PackageName
from registry.policy import places
from registry.policy.document import parse
from registry.policy.evaluate import Outcome, Question, Rule, decide, select
from registry.policy.places import Place
from registry.policy.roles import ROLES, rule_of
from registry.policy.wildcards import matches, reaches

READ, PUBLISH = "codeartifact:ReadFromRepository", "codeartifact:PublishPackageVersion"
DEV = Place("default", "dev")
DEMO = Place("default", "dev", PackageKey("npm", "acme", PackageName("demo")))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALICE = frozenset({"user/alice", "group/ops"})


def statement(effect: str = "Allow", **fields: object) -> dict[str, object]:
    base: dict[str, object] = {"Effect": effect, "Principal": "*", "Action": "*", "Resource": "*", **fields}
    return {name: value for name, value in base.items() if value is not None}


def document(*statements: dict[str, object]) -> dict[str, object]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def outcome(*statements, who=ALICE, action=READ, place=DEV, **facts) -> Outcome:
    rules = [Rule(each, "test") for each in parse(document(*statements)).statements] if statements else []
    facts = {"aws:currenttime": NOON, **{f"aws:{name}": value for name, value in facts.items()}}
    return decide(select(rules, Question(frozenset(who), action.lower(), place)), facts).outcome


YES, NO, DENIED = Outcome.ALLOW, Outcome.IMPLICIT_DENY, Outcome.EXPLICIT_DENY


# --- what IAM's documentation says -----------------------------------------------------------------------------------

CASES = {
    "nothing said": ((), {}, NO),
    "allowed": ((statement(),), {}, YES),
    "a deny alone": ((statement("Deny"),), {}, DENIED),
    "deny after allow": ((statement(), statement("Deny")), {}, DENIED),
    "deny before allow": ((statement("Deny"), statement()), {}, DENIED),
    "a deny of another action": ((statement(), statement("Deny", Action=PUBLISH)), {}, YES),
    "action without regard to case": ((statement(Action="CodeArtifact:readfromrepository"),), {}, YES),
    "action with a wildcard": ((statement(Action="codeartifact:Read*"),), {}, YES),
    "action with a question mark": ((statement(Action="codeartifact:ReadFromRepositor?"),), {}, YES),
    "another action": ((statement(Action=PUBLISH),), {}, NO),
    "a list of actions": ((statement(Action=[PUBLISH, READ]),), {}, YES),
    "NotAction of another": ((statement(Action=None, NotAction=PUBLISH),), {}, YES),
    "NotAction of it": ((statement(Action=None, NotAction=[READ, PUBLISH]),), {}, NO),
    "named user": ((statement(Principal="user/alice"),), {}, YES),
    "named user under AWS": ((statement(Principal={"AWS": ["arn:aws:iam::123456789012:user/alice"]}),), {}, YES),
    "named group": ((statement(Principal=["group/ops", "user/bob"]),), {}, YES),
    "another user": ((statement(Principal="user/bob"),), {}, NO),
    "a stranger is not everybody": ((statement(),), {"who": ()}, NO),
    "a stranger may be denied": ((statement("Deny"),), {"who": ()}, DENIED),
    "denied but for one": ((statement("Deny", Principal=None, NotPrincipal="user/bob"),), {}, DENIED),
    "not denied": ((statement(), statement("Deny", Principal=None, NotPrincipal="user/alice")), {}, YES),
    "the repository": ((statement(Resource="repository/default/dev"),), {}, YES),
    "the repository by its ARN": (
        (statement(Resource="arn:aws:codeartifact:eu-west-1:123456789012:repository/default/dev"),), {}, YES,
    ),
    "another repository": ((statement(Resource="repository/default/staging"),), {}, NO),
    "names are not prefixes": ((statement(Resource="repository/default/de"),), {}, NO),
    "resources heed case": ((statement(Resource="repository/default/DEV"),), {}, NO),
    "a repository stands for its packages": ((statement(Resource="repository/default/dev"),), {"place": DEMO}, YES),
    "a package": ((statement(Resource="package/default/dev/npm/acme/demo"),), {"place": DEMO}, YES),
    "a namespace": ((statement(Resource="package/default/dev/npm/acme/*"),), {"place": DEMO}, YES),
    "another package": ((statement(Resource="package/default/dev/npm/acme/other"),), {"place": DEMO}, NO),
    "a package is not its repository": ((statement(Resource="package/default/dev/*"),), {}, NO),
    "NotResource of another": ((statement(Resource=None, NotResource="repository/default/prod"),), {}, YES),
    "NotResource of it": ((statement(Resource=None, NotResource="repository/default/*"),), {}, NO),
    "a package is denied in an allowed repository": (
        (statement(), statement("Deny", Resource="package/*/acme/demo")), {"place": DEMO}, DENIED,
    ),
    "from the network": (
        (statement(Condition={"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}),),
        {"sourceip": "192.0.2.7"}, YES,
    ),
    "from the network, mapped": (
        (statement(Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),), {"sourceip": "::ffff:192.0.2.7"}, YES,
    ),
    "from elsewhere": (
        (statement(Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),), {"sourceip": "198.51.100.1"}, NO,
    ),
    "denied from elsewhere": (
        (statement(), statement("Deny", Condition={"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}})),
        {"sourceip": "198.51.100.1"}, DENIED,
    ),
    "no address known": ((statement(Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),), {}, NO),
    "no address known, negated": ((statement(Condition={"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}),), {}, YES),
    "no address known, if exists": (
        (statement(Condition={"IpAddressIfExists": {"aws:SourceIp": "192.0.2.0/24"}}),), {}, YES,
    ),
    "an address that is none": (
        (statement(Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),), {"sourceip": "unix:"}, NO,
    ),
    "Null of what is not there": ((statement(Condition={"Null": {"aws:SourceIp": "true"}}),), {}, YES),
    "Null of what is there": ((statement(Condition={"Null": {"aws:SourceIp": "true"}}),), {"sourceip": "::1"}, NO),
    "before": ((statement(Condition={"DateLessThan": {"aws:CurrentTime": "2026-01-01T12:00:01Z"}}),), {}, YES),
    "too late": ((statement(Condition={"DateLessThan": {"aws:CurrentTime": "2026-01-01T12:00:00Z"}}),), {}, NO),
    "after": ((statement(Condition={"DateGreaterThanEquals": {"aws:CurrentTime": "2026-01-01"}}),), {}, YES),
    "all keys must hold": (
        (statement(Condition={
            "DateGreaterThan": {"aws:CurrentTime": "2020-01-01"}, "IpAddress": {"aws:SourceIp": "192.0.2.1"},
        }),), {"sourceip": "192.0.2.2"}, NO,
    ),
    "text": ((statement(Condition={"StringEquals": {"aws:username": ["bob", "alice"]}}),), {"username": "alice"}, YES),
    "text heeds case": ((statement(Condition={"StringEquals": {"AWS:UserName": "Alice"}}),), {"username": "alice"}, NO),
    "but not there": (
        (statement(Condition={"StringEqualsIgnoreCase": {"aws:username": "Alice"}}),), {"username": "alice"}, YES,
    ),
    "text like": ((statement(Condition={"StringLike": {"aws:username": "al*"}}),), {"username": "alice"}, YES),
    "text unlike any": (
        (statement(Condition={"StringNotLike": {"aws:username": ["al*", "bo*"]}}),), {"username": "bob"}, NO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_documented_cases(case: str) -> None:
    statements, asked, expected = CASES[case]
    assert outcome(*statements, **asked) is expected


# --- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "not an object": [],
    "no statement": {"Version": "2012-10-17"},
    "an empty list": {"Statement": []},
    "a version of no year": {"Version": "2026-01-01", "Statement": [statement()]},
    "an unknown field": {"Statement": [statement()], "Statements": []},
    "an unknown field of a statement": document(statement(Principals="*")),
    "no effect": document(statement(None)),  # type: ignore[arg-type]
    "another effect": document(statement("allow")),
    "no principal": document(statement(Principal=None)),
    "both principals": document(statement("Deny", NotPrincipal="user/bob")),
    "allow for all but one": document(statement(Principal=None, NotPrincipal="user/bob")),
    "a principal of another kind": document(statement(Principal={"Service": "builds"})),
    "a pattern of principals": document(statement(Principal="user/*")),
    "the root of an account": document(statement(Principal="arn:aws:iam::123456789012:root")),
    "no action": document(statement(Action=None)),
    "both actions": document(statement(NotAction=READ)),
    "an unknown action": document(statement(Action="codeartifact:FlyToTheMoon")),
    "another service's action": document(statement(Action="s3:GetObject")),
    "an empty list of actions": document(statement(Action=[])),
    "a number for an action": document(statement(Action=7)),
    "an unknown resource": document(statement(Resource="bucket/x")),
    "a bare name for a resource": document(statement(Resource="dev")),
    "an unknown operator": document(statement(Condition={"NumericEquals": {"aws:SourceIp": "1"}})),
    "an unknown key": document(statement(Condition={"StringEquals": {"aws:PrincipalTag/team": "x"}})),
    "an operator of another kind": document(statement(Condition={"StringEquals": {"aws:SourceIp": "192.0.2.1"}})),
    "no network": document(statement(Condition={"IpAddress": {"aws:SourceIp": "192.0.2.0/33"}})),
    "no moment": document(statement(Condition={"DateLessThan": {"aws:CurrentTime": "tomorrow"}})),
    "no flag": document(statement(Condition={"Bool": {"entrepot:ServiceAccount": "maybe"}})),
    "no value": document(statement(Condition={"StringEquals": {"aws:username": []}})),
    "Null if exists": document(statement(Condition={"NullIfExists": {"aws:SourceIp": "true"}})),
    "one Sid twice": document(statement(Sid="One"), statement(Sid="One")),
    "a Sid of other characters": document(statement(Sid="a/b")),
    "too many": document(*[statement()] * 101),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    with pytest.raises(Invalid):
        parse(REFUSED[case])


def test_the_sound_document_beside_them_is_taken_as_a_list_and_alone() -> None:
    assert parse(document(statement())) == parse({"Statement": statement()})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        parse(document(statement("Maybe", Sid="First"), statement(Action="x:Y", Colour="red"), statement()))
    text = str(refused.value)
    assert "statement 1 (First): Effect" in text
    assert "statement 2: unknown field 'Colour'" in text
    assert "statement 2: no action is called 'x:Y'" in text
    assert "statement 3" not in text


# --- uploads that name their package late ----------------------------------------------------------------------------


def test_a_package_that_is_named_later_is_let_in_by_what_may_allow_it() -> None:
    later = Place("default", "dev", None, is_open=True)
    allowed = statement(Resource="package/default/dev/pypi//acme-*")
    assert outcome(allowed, action=PUBLISH, place=later) is YES
    assert outcome(allowed, action=PUBLISH, place=DEV) is NO  # where no package is concerned, it says nothing
    assert outcome(statement(Resource="package/default/other/*"), action=PUBLISH, place=later) is NO
    # A deny waits for the name, unless the whole repository is denied.
    assert outcome(allowed, statement("Deny", Resource="package/default/dev/*"), action=PUBLISH, place=later) is YES
    assert outcome(allowed, statement("Deny", Resource="repository/default/*"), action=PUBLISH, place=later) is DENIED


# --- against a second opinion ----------------------------------------------------------------------------------------

text_of = st.text("ab/*?", max_size=8)
plain = st.text("ab/", max_size=8)


@given(text_of, plain)
def test_wildcards_against_regular_expressions(pattern: str, text: str) -> None:
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), text, re.DOTALL) is not None
    assert matches(pattern, text) == expected
    assert expected == fnmatch.fnmatchcase(text, pattern)


@given(text_of, st.text("ab/", max_size=4), st.text("ab/", min_size=1, max_size=4))
def test_what_a_longer_text_fits_its_beginning_reaches(pattern: str, prefix: str, rest: str) -> None:
    if matches(pattern, prefix + rest):
        assert reaches(pattern, prefix)


def test_what_no_longer_text_fits_is_not_reached() -> None:
    assert not reaches("ab", "ab")
    assert not reaches("ab*", "b")
    assert reaches("ab?", "ab")


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches("*a" * 200 + "b", "a" * 400)


ACTIONS = [READ, PUBLISH, "codeartifact:*", "*"]
RESOURCES = ["*", "repository/default/dev", "repository/default/*", "package/default/dev/*", "repository/other/*"]
PRINCIPALS = ["*", "user/alice", "user/bob", "group/ops"]


@st.composite
def statements_(draw) -> dict[str, object]:
    effect = draw(st.sampled_from(["Allow", "Deny"]))
    made = statement(effect, Principal=None, Action=None, Resource=None)
    if draw(st.booleans()):
        made["Sid"] = "Drawn"
    not_principal = effect == "Deny" and draw(st.booleans())
    made["NotPrincipal" if not_principal else "Principal"] = draw(
        st.lists(st.sampled_from(PRINCIPALS), min_size=1, max_size=2)
    )
    made[draw(st.sampled_from(["Action", "NotAction"]))] = draw(
        st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=2)
    )
    made[draw(st.sampled_from(["Resource", "NotResource"]))] = draw(
        st.lists(st.sampled_from(RESOURCES), min_size=1, max_size=2)
    )
    if draw(st.booleans()):
        made["Condition"] = {"IpAddress": {"aws:SourceIp": draw(st.sampled_from(["192.0.2.0/24", "0.0.0.0/0"]))}}
    return made


def naive(statements: list[dict[str, object]], who: frozenset[str], action: str, place: Place, ip: str) -> Outcome:
    """The rule as one would write it down, with none of the evaluator's parts."""

    def fits(listed: object, texts: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(text, pattern) for pattern in listed for text in texts)  # type: ignore[attr-defined]

    effects = set()
    for each in statements:
        if "Principal" in each:
            named = bool(who & set(each["Principal"])) or (
                "*" in each["Principal"] and (bool(who) or each["Effect"] == "Deny")
            )  # type: ignore[arg-type, operator]
        else:
            named = not (who & set(each["NotPrincipal"]) or "*" in each["NotPrincipal"])  # type: ignore[arg-type, operator]
        acts = fits(each["Action"], [action]) if "Action" in each else not fits(each["NotAction"], [action])
        where = [*place.resources]
        there = fits(each["Resource"], where) if "Resource" in each else not fits(each["NotResource"], where)
        wanted = each.get("Condition", {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})["IpAddress"]["aws:SourceIp"]  # type: ignore[index]
        near = wanted == "0.0.0.0/0" or ip.startswith("192.0.2.")
        if named and acts and there and near:
            effects.add(each["Effect"])
    return DENIED if "Deny" in effects else YES if "Allow" in effects else NO


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        statements_().map(lambda each: {name: value for name, value in each.items() if name != "Sid"}), max_size=5
    ),
    st.sampled_from([frozenset(), frozenset({"user/alice"}), ALICE, frozenset({"user/eve"})]),
    st.sampled_from([READ, PUBLISH]),
    st.sampled_from([DEV, DEMO, Place("other", "dev"), Place("default")]),
    st.sampled_from(["192.0.2.7", "198.51.100.1"]),
)
def test_decisions_against_a_naive_oracle(statements, who, action, place, ip) -> None:
    assert outcome(*statements, who=who, action=action, place=place, sourceip=ip) is naive(
        statements, who, action, place, ip
    )


# --- roles and places ------------------------------------------------------------------------------------------------


def test_roles_grow_and_admin_holds_all() -> None:
    reader, publisher, admin = (
        rule_of(name, "user#1", "user/a", "default", "") for name in ("reader", "publisher", "admin")
    )

    def may(rule: Rule, action: str, place: Place = DEV) -> bool:
        return decide(select([rule], Question(frozenset({"user#1"}), action.lower(), place)), {}).allowed

    assert [may(rule, READ) for rule in (reader, publisher, admin)] == [True, True, True]
    assert [may(rule, PUBLISH) for rule in (reader, publisher, admin)] == [False, True, True]
    assert [may(rule, "entrepot:ManageRoles") for rule in (reader, publisher, admin)] == [False, False, True]
    assert not may(admin, READ, Place("other", "dev"))
    assert not may(admin, "entrepot:ManageUsers", Place())
    assert set(ROLES) == {"reader", "publisher", "release-manager", "admin"}


@pytest.mark.parametrize(
    ("domain", "repository", "place", "expected"),
    [
        ("", "", Place(), True),
        ("default", "", Place(), False),
        ("default", "", Place("default"), True),
        ("default", "", Place("default2", "dev"), False),
        ("default", "team-*", Place("default", "team-a"), True),
        ("default", "team-*", Place("default", "team-a", DEMO.package), True),
        ("default", "team-*", Place("default", "dev"), False),
        ("default", "dev", Place("default"), False),
        ("default", "dev", DEMO, True),
        ("default", "de", DEMO, False),
    ],
)
def test_where_a_role_counts(domain: str, repository: str, place: Place, expected: bool) -> None:
    rule = rule_of("admin", "user#1", "user/a", domain, repository)
    assert decide(select([rule], Question(frozenset({"user#1"}), READ.lower(), place)), {}).allowed is expected


def test_places_as_people_write_them() -> None:
    assert places.parse("server") == Place()
    assert places.parse("default") == Place("default")
    assert places.parse("default/dev") == places.parse("repository/default/dev") == DEV
    assert places.parse("arn:aws:codeartifact:eu-west-1:1:package/default/dev/npm/acme/demo") == DEMO
    for bad in ("", "/", "a/b/c", "package/default/dev", "default/"):
        with pytest.raises(Invalid):
            places.parse(bad)
