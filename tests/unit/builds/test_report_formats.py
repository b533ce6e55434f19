"""What real tools write, what they write on odd days, and what attackers write, read by every report format."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooks.builds.reports.formats import FORMATS
from hooks.builds.reports.model import Case, CaseStatus, FileCoverage, Malformed, ReportType, percentage
from hooks.builds.reports.values import clock_to_ns, count, milliseconds_to_ns, seconds_to_ns, split_method
from hooks.builds.spec_results import REPORT_FORMATS

HERE = Path(__file__).parent / "reports"
XML = [name for name in FORMATS if name not in {"CUCUMBERJSON", "SIMPLECOV"}]
ROOTS = {
    "JUNITXML": "testsuites",
    "NUNITXML": "test-results",
    "NUNIT3XML": "test-run",
    "TESTNGXML": "testng-results",
    "VISUALSTUDIOTRX": "TestRun",
    "CLOVERXML": "coverage",
    "COBERTURAXML": "coverage",
    "JACOCOXML": "report",
}
OK, BAD, ERROR, SKIPPED = CaseStatus.SUCCEEDED, CaseStatus.FAILED, CaseStatus.ERROR, CaseStatus.SKIPPED
MS = 1_000_000


def read(format_name: str, text: str | bytes) -> list[Case | FileCoverage]:
    body = text.encode() if isinstance(text, str) else text
    return list(FORMATS[format_name].read(io.BytesIO(body)))


def of_file(format_name: str, name: str) -> list[Case | FileCoverage]:
    return read(format_name, (HERE / name).read_bytes())


def brief(cases) -> list[tuple[str, str, str, str]]:
    return [(case.prefix, case.suite, case.name, case.status.value) for case in cases]


def test_the_table_has_the_formats_that_a_buildspec_may_name():
    assert tuple(FORMATS) == REPORT_FORMATS
    coverage = {name for name, entry in FORMATS.items() if entry.type is ReportType.CODE_COVERAGE}
    assert coverage == {"CLOVERXML", "COBERTURAXML", "JACOCOXML", "SIMPLECOV"}


# --- as real tools write them


def test_pytest_as_it_is_installed_here(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', [1, '<&>'])\ndef test_ok(n): pass\n"
        "class TestMore:\n"
        "    def test_bad(self): assert 0, 'zero ]]> é \\x00'\n"
        "    @pytest.mark.skip(reason='later')\n    def test_later(self): pass\n"
        "@pytest.fixture\ndef gone(): raise OSError('away')\n"
        "def test_setup(gone): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--junitxml=r.xml",
        ".",
    ]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert ran.returncode == 1, ran.stdout
    cases = read("JUNITXML", (tmp_path / "r.xml").read_bytes())
    assert brief(cases) == [
        ("pytest", "test_it", "test_ok[1]", "SUCCEEDED"),
        ("pytest", "test_it", "test_ok[<&>]", "SUCCEEDED"),
        ("pytest", "test_it.TestMore", "test_bad", "FAILED"),
        ("pytest", "test_it.TestMore", "test_later", "SKIPPED"),
        ("pytest", "test_it", "test_setup", "ERROR"),
    ]
    assert "zero ]]> é #x00" in cases[2].message
    assert cases[3].message.startswith("later")
    assert "OSError: away" in cases[4].message


def test_surefire():
    cases = of_file("JUNITXML", "surefire.xml")
    assert [(case.name, case.status, case.duration_ns) for case in cases] == [
        ("positive[1, one](1)", OK, 138 * MS),
        ("positive[2, null](2)", OK, 0),
        ("skipped", SKIPPED, 0),
        ("zero", BAD, 104 * MS),
    ]
    assert {(case.prefix, case.suite) for case in cases} == {("", "org.acme.CalcTest")}
    assert "zero <has> no sign expected [1] but found [0]" in cases[3].message


def test_mocha_and_jest():
    assert brief(of_file("JUNITXML", "mocha.xml"))[2] == ("sign", "fails", "calc sign fails", "FAILED")
    cases = of_file("JUNITXML", "jest.xml")
    assert [case.status for case in cases] == [OK, OK, BAD, SKIPPED]
    assert cases[2].message.startswith("Error: zero has\nno sign\n")


def test_testng():
    cases = of_file("TESTNGXML", "testng.xml")
    assert brief(cases) == [
        ("Surefire suite / Surefire test", "org.acme.CalcTest", "positive(1, one)", "SUCCEEDED"),
        ("Surefire suite / Surefire test", "org.acme.CalcTest", "positive(2, null)", "SUCCEEDED"),
        ("Surefire suite / Surefire test", "org.acme.CalcTest", "skipped", "SKIPPED"),
        ("Surefire suite / Surefire test", "org.acme.CalcTest", "zero", "FAILED"),
    ]
    assert cases[0].duration_ns == 139 * MS
    assert cases[3].message.startswith("zero <has> no sign expected [1] but found [0]\n")


def test_cucumber():
    cases = of_file("CUCUMBERJSON", "cucumber.json")
    assert brief(cases) == [
        ("", "Signs", "positive", "SUCCEEDED"),
        ("", "Signs", "positive", "FAILED"),
        ("", "Signs", "undefined", "ERROR"),
        ("", "Signs", "fine", "SUCCEEDED"),
    ]
    assert cases[0].duration_ns == 10296820 + 337618 + 174475
    assert cases[1].message.startswith("Then it is 1: Error: it is 0\n")
    assert cases[2].message == "Then nobody knows this: undefined"


@pytest.mark.parametrize(
    ("format_name", "name", "expected"),
    [
        ("COBERTURAXML", "coverage-py.xml", [FileCoverage("__init__.py", 0, 0), FileCoverage("calc.py", 6, 2, 3, 1)]),
        ("COBERTURAXML", "nyc-cobertura.xml", [FileCoverage("lib/calc.js", 1, 3, 0, 4)]),
        ("CLOVERXML", "nyc-clover.xml", [FileCoverage("/codebuild/src/js/lib/calc.js", 1, 3, 0, 4)]),
        ("JACOCOXML", "jacoco.xml", [FileCoverage("org/acme/Calc.java", 3, 2, 3, 1)]),
    ],
)
def test_coverage_of_real_tools(format_name, name, expected):
    assert of_file(format_name, name) == expected


# --- in the manner of the tools that are not here


NUNIT2 = r"""<?xml version="1.0" encoding="utf-8" standalone="no"?>
<test-results name="C:\ci\bin\Acme.Tests.dll" total="6" errors="1" failures="1" not-run="1" date="2026-01-02" time="10:00:00">
  <environment nunit-version="2.6.4.14350" clr-version="2.0.50727" /><culture-info current-culture="de-DE" />
  <test-suite type="Assembly" name="C:\ci\bin\Acme.Tests.dll" executed="True" result="Failure" success="False" time="0.094">
   <results><test-suite type="Namespace" name="Acme"><results>
    <test-suite type="TestFixture" name="CalcTest" executed="True" result="Failure" success="False" time="0,047"><results>
      <test-case name="Acme.CalcTest.Adds" executed="True" result="Success" success="True" time="0,016" asserts="1" />
      <test-case name="Acme.CalcTest.Adds(1.5,&quot;a.b(c&quot;)" executed="True" result="Success" success="True" time="0.000" />
      <test-case name="Acme.CalcTest.Breaks" executed="True" result="Error" success="False" time="0.001">
        <failure><message><![CDATA[System.Exception : boom]]></message><stack-trace><![CDATA[at Acme.CalcTest.Breaks()
]]></stack-trace></failure></test-case>
      <test-case name="Acme.CalcTest.Fails" executed="True" result="Failure" success="False" time="0.001">
        <failure><message><![CDATA[  Expected: 1
  But was:  2
]]></message><stack-trace /></failure></test-case>
      <test-case name="Acme.CalcTest.Later" executed="False" result="Ignored"><reason><message><![CDATA[not yet]]></message></reason></test-case>
      <test-case name="Acme.CalcTest.Maybe" executed="True" result="Inconclusive" success="False" time="0.0" />
    </results></test-suite></results></test-suite></results></test-suite></test-results>"""


def test_nunit_2():
    cases = read("NUNITXML", NUNIT2)
    assert [(case.name, case.status.value) for case in cases] == [
        ("Adds", "SUCCEEDED"),
        ('Adds(1.5,"a.b(c")', "SUCCEEDED"),
        ("Breaks", "ERROR"),
        ("Fails", "FAILED"),
        ("Later", "SKIPPED"),
        ("Maybe", "UNKNOWN"),
    ]
    assert {(case.prefix, case.suite) for case in cases} == {("Acme.Tests.dll", "Acme.CalcTest")}
    assert cases[0].duration_ns == 16 * MS
    assert cases[3].message == "Expected: 1\n  But was:  2"
    assert cases[4].message == "not yet"


NUNIT3 = """<?xml version="1.0" encoding="utf-8" standalone="no"?>
<test-run id="2" testcasecount="5" result="Failed" total="5" passed="2" failed="2" engine-version="3.12.0.0" duration="0.532">
 <command-line><![CDATA["nunit3-console" Acme.Tests.dll]]></command-line>
 <test-suite type="Assembly" id="1" name="Acme.Tests.dll" fullname="/ci/Acme.Tests.dll" result="Failed">
  <test-suite type="TestSuite" name="Acme" fullname="Acme"><test-suite type="ParameterizedFixture" name="CalcTest">
   <test-suite type="TestFixture" id="3" name="CalcTest(7)" fullname="Acme.CalcTest(7)" classname="Acme.CalcTest">
    <test-case id="4" name="Adds" fullname="Acme.CalcTest(7).Adds" methodname="Adds" classname="Acme.CalcTest" runstate="Runnable" result="Passed" duration="0.035123" asserts="1" />
    <test-case id="5" name="Fails" fullname="Acme.CalcTest(7).Fails" classname="Acme.CalcTest" result="Failed" duration="0.01">
      <failure><message><![CDATA[Expected: 1]]></message><stack-trace><![CDATA[at here]]></stack-trace></failure>
      <output><![CDATA[noise]]></output><assertions><assertion result="Failed"><message>twice</message></assertion></assertions></test-case>
    <test-case id="6" name="Breaks" fullname="Acme.CalcTest(7).Breaks" classname="Acme.CalcTest" result="Failed" label="Error" duration="0.01" />
    <test-case id="7" name="Later" fullname="Acme.CalcTest(7).Later" classname="Acme.CalcTest" result="Skipped" label="Ignored"><reason><message>not yet</message></reason></test-case>
    <test-case id="8" name="Warns" fullname="Acme.CalcTest(7).Warns" classname="Acme.CalcTest" result="Warning" duration="0.01" />
   </test-suite></test-suite></test-suite></test-suite></test-run>"""


def test_nunit_3():
    cases = read("NUNIT3XML", NUNIT3)
    assert [(case.name, case.status) for case in cases] == [
        ("Adds", OK),
        ("Fails", BAD),
        ("Breaks", ERROR),
        ("Later", SKIPPED),
        ("Warns", OK),
    ]
    assert {(case.prefix, case.suite) for case in cases} == {("Acme.Tests.dll", "Acme.CalcTest")}
    assert (cases[0].duration_ns, cases[1].message) == (35123000, "Expected: 1\nat here")


TRX = """\ufeff<?xml version="1.0" encoding="utf-8"?>
<TestRun id="1" name="ci" xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010">
  <Times creation="2026-01-02T10:00:00.0000000+00:00" /><Results>
    <UnitTestResult executionId="a" testId="t1" testName="Adds" duration="00:00:00.0312500" outcome="Passed" />
    <UnitTestResult executionId="b" testId="t2" testName="Acme.CalcTest.Fails(x: &quot;a.b&quot;)" duration="00:01:00" outcome="Failed">
      <Output><StdOut>noise</StdOut><ErrorInfo><Message>Assert.Equal() Failure</Message><StackTrace>at here</StackTrace></ErrorInfo></Output>
    </UnitTestResult>
    <UnitTestResult executionId="c" testId="t3" testName="Rows" outcome="Failed" duration="1.00:00:01"><InnerResults>
      <UnitTestResult executionId="d" testId="t3" testName="Rows (1)" duration="00:00:01" outcome="Passed" />
      <UnitTestResult executionId="e" testId="t3" testName="Rows (2)" duration="nonsense" outcome="Timeout" />
    </InnerResults></UnitTestResult>
    <UnitTestResult executionId="f" testId="t4" testName="Later" outcome="NotExecuted" />
    <UnitTestResult executionId="g" testId="gone" testName="Lost" outcome="Inconclusive" />
  </Results><TestDefinitions>
    <UnitTest name="Adds" storage="acme.tests.dll" id="t1"><Execution id="a" /><TestMethod codeBase="x" className="Acme.CalcTest" name="Adds" /></UnitTest>
    <UnitTest name="Fails" id="t2"><TestMethod className="Acme.CalcTest" name="Fails" /></UnitTest>
    <UnitTest name="Rows" id="t3"><TestMethod className="Acme.CalcTest, Acme.Tests, Version=1.0.0.0" name="Rows" /></UnitTest>
    <UnitTest name="Later" id="t4"><TestMethod className="Acme.CalcTest" name="Later" /></UnitTest>
  </TestDefinitions></TestRun>"""


def test_visual_studio():
    cases = read("VISUALSTUDIOTRX", TRX)
    assert [(case.suite, case.name, case.status.value) for case in cases] == [
        ("Acme.CalcTest", "Adds", "SUCCEEDED"),
        ("Acme.CalcTest", 'Fails(x: "a.b")', "FAILED"),
        ("Acme.CalcTest", "Rows (1)", "SUCCEEDED"),
        ("Acme.CalcTest", "Rows (2)", "ERROR"),
        ("Acme.CalcTest", "Later", "SKIPPED"),
        ("", "Lost", "UNKNOWN"),
    ]
    assert [case.duration_ns for case in cases[:4]] == [31_250_000, 60_000 * MS, 1000 * MS, 0]
    assert cases[1].message == "Assert.Equal() Failure\nat here"


def test_phpunit_clover_and_openclover():
    text = """<coverage generated="1"><project timestamp="1"><package name="acme.calc"><file name="Calc.php">
      <class name="Calc"><metrics methods="1" statements="9" coveredstatements="9"/></class>
      <line num="3" type="method" name="x" count="1"/><line num="4" type="stmt" count="2"/><line num="5" type="stmt" count="0"/>
      <line num="6" type="cond" truecount="1" falsecount="0"/>
      </file></package><file name="/app/b.php"><metrics statements="3" coveredstatements="1" conditionals="0" coveredconditionals="0"/></file>
      </project><testproject><package name="t"><file name="T.java"><line num="1" type="stmt" count="1"/></file></package></testproject></coverage>"""
    assert read("CLOVERXML", text) == [FileCoverage("acme/calc/Calc.php", 2, 1, 1, 1), FileCoverage("/app/b.php", 1, 2)]


def test_cobertura_of_classes_that_share_a_file_and_of_methods_alone():
    text = """<coverage><packages><package><classes>
      <class name="A" filename="a.cs"><lines><line number="1" hits="0"/><line number="2" hits="99999999999999"/></lines></class>
      <class name="A+In" filename="a.cs"><lines><line number="1" hits="3" branch="True" condition-coverage="50% (1/2)"/></lines></class>
      <class name="B" filename="b.cs"><methods><method name="m"><lines><line number="7" hits="0"/></lines></method></methods><lines/></class>
      </classes></package></packages></coverage>"""
    assert read("COBERTURAXML", text) == [FileCoverage("a.cs", 2, 0, 1, 1), FileCoverage("b.cs", 0, 1)]


def test_simplecov_of_old_and_new_and_of_several_runs():
    old = {"RSpec": {"coverage": {"/a.rb": [None, 1, 0, 0]}, "timestamp": 1}}
    both = {
        "RSpec": {
            "coverage": {
                "/a.rb": {
                    "lines": [None, 1, 0, "ignored"],
                    "branches": {"[:if, 0]": {"[:then, 1]": 1, "[:else, 2]": 0}},
                }
            }
        },
        "Cucumber": {"coverage": {"/a.rb": {"lines": [None, 0, 2], "branches": {"[:if, 0]": {"[:else, 2]": 4}}}}},
    }
    own = {"meta": {}, "coverage": {"/a.rb": {"lines": [1, 0], "branches": [{"type": "then", "coverage": 0}]}}}
    assert read("SIMPLECOV", json.dumps(old)) == [FileCoverage("/a.rb", 1, 2)]
    assert read("SIMPLECOV", json.dumps(both)) == [FileCoverage("/a.rb", 2, 0, 2, 0)]
    assert read("SIMPLECOV", json.dumps(own)) == [FileCoverage("/a.rb", 1, 1, 0, 1)]
    for wrong in ("[]", "{}", '{"RSpec": 3}'):
        with pytest.raises(Malformed, match="coverage"):
            read("SIMPLECOV", wrong)


# --- odd, and yet well-formed


def test_odd_junit():
    text = """<?xml version="1.0" encoding="ISO-8859-1"?><testsuites><testsuite name="outer"><testsuite name="inner">
      <properties/><testcase name="no class, no time"/>
      <testcase classname="c" name="two" time="1,5"><failure message="one"/><failure><![CDATA[two <b>]]></failure></testcase>
      <testcase classname="c" name="both" time=""><failure/><error type="E"/></testcase>
      <testcase classname="c" name="flaky"><flakyFailure message="at first"><stackTrace>st</stackTrace></flakyFailure></testcase>
      <testcase classname="c" name="gtest" status="notrun" result="suppressed"/><testcase/>
      </testsuite><failure message="suite broke"/><system-out>x</system-out></testsuite></testsuites>"""
    cases = read("JUNITXML", text.encode("latin-1"))
    assert brief(cases) == [
        ("", "inner", "no class, no time", "SUCCEEDED"),
        ("inner", "c", "two", "FAILED"),
        ("inner", "c", "both", "ERROR"),
        ("inner", "c", "flaky", "SUCCEEDED"),
        ("inner", "c", "gtest", "SKIPPED"),
        ("", "inner", "", "SUCCEEDED"),
        ("", "outer", "(suite)", "FAILED"),
    ]
    assert (cases[1].duration_ns, cases[1].message) == (1500 * MS, "one\ntwo <b>")
    assert cases[3].message == "Passed after it had failed: at first\nst"


def test_ten_thousand_cases_come_one_by_one():
    body = (
        "<testsuite>" + '<testcase name="n" time="0.1"><system-out>x</system-out></testcase>' * 10_000 + "</testsuite>"
    )
    cases = read("JUNITXML", body)
    assert len(cases) == 10_000
    assert sum(case.duration_ns for case in cases) == 1000 * 1000 * MS


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("0,25", 0.25),
        ("1,234,567", 1234567),
        (" 2 ", 2),
        ("1e-3", 0.001),
        ("-1", 0),
        ("NaN", 0),
        ("x", 0),
        ("", 0),
        ("inf", 366 * 24 * 3600),
    ],
)
def test_durations(text, seconds):
    assert seconds_to_ns(text) == round(seconds * 1e9)


def test_other_values():
    assert (milliseconds_to_ns("1500"), clock_to_ns("1.02:03:04.5"), clock_to_ns("99")) == (1500 * MS, 93784500 * MS, 0)
    assert (count("7"), count("-7"), count("9" * 10), count("٣")) == (7, 0, 0, 0)
    assert split_method('A.B.C("x.y")') == ("A.B", 'C("x.y")')
    assert (percentage(1, 2), percentage(0, 0)) == (33.33, None)


# --- malformed and hostile


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"   ",
        b"<",
        b"{",
        b"<a></a>",
        b"\0\0",
        b"\xff\xfe",
        b"<testsuites><testcase></testsuites>",
        b"<coverage>",
        b"3",
    ],
)
def test_what_cannot_be_read_is_malformed(format_name, text):
    with pytest.raises(Malformed):
        read(format_name, text)


@pytest.mark.parametrize("format_name", FORMATS)
@given(
    text=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda of: (
                st.lists(of, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["coverage", "elements", "steps", "result", "status", "lines", "branches", "name"]),
                    of,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
@settings(max_examples=25, deadline=None)
def test_nothing_but_malformed_ever_comes_of_it(format_name, text):
    try:
        read(format_name, text)
    except Malformed:
        return


def cut_short() -> list[tuple[str, bytes]]:
    whole = {
        "JUNITXML": (HERE / "surefire.xml").read_bytes(),
        "TESTNGXML": (HERE / "testng.xml").read_bytes(),
        "NUNITXML": NUNIT2.encode(),
        "NUNIT3XML": NUNIT3.encode(),
        "VISUALSTUDIOTRX": TRX.encode(),
        "JACOCOXML": (HERE / "jacoco.xml").read_bytes(),
        "COBERTURAXML": (HERE / "coverage-py.xml").read_bytes(),
        "CLOVERXML": (HERE / "nyc-clover.xml").read_bytes(),
        "CUCUMBERJSON": (HERE / "cucumber.json").read_bytes(),
    }
    return [(name, body[: len(body) * part // 4]) for name, body in whole.items() for part in (1, 2, 3)]


@pytest.mark.parametrize(("format_name", "text"), cut_short())
def test_a_file_that_ends_too_early_is_malformed(format_name, text):
    with pytest.raises(Malformed, match=r"not well-formed|not JSON"):
        read(format_name, text)


def test_what_came_before_the_fault_is_not_lost():
    cases = FORMATS["JUNITXML"].read(
        io.BytesIO(b'<testsuite><testcase name="a"/>' + b" " * 70_000 + b"<x></testsuite>")
    )
    assert next(cases) == Case("", "", "a", OK)
    with pytest.raises(Malformed):
        next(cases)


@pytest.mark.parametrize("format_name", XML)
@pytest.mark.parametrize(
    "attack",
    [
        '<!DOCTYPE {r} [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><{r}>&b;</{r}>',
        '<!DOCTYPE {r} [<!ENTITY x SYSTEM "file:///etc/passwd">]><{r}>&x;</{r}>',
        '<!DOCTYPE {r} [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]><{r}/>',
        '<!DOCTYPE {r} [<!ATTLIST {r} a CDATA "default">]><{r}/>',
        "<!DOCTYPE {r} []><{r}/>",
        '<!DOCTYPE {r} SYSTEM "http://127.0.0.1:9/x"><{r}>&x;</{r}>',
        "<{r}>" + "<a>" * 200_000,
    ],
)
def test_attacks_by_xml_are_malformed(format_name, attack):
    started = time.process_time()
    with pytest.raises(Malformed):
        read(format_name, attack.replace("{r}", ROOTS[format_name]))
    assert time.process_time() - started < 20  # a blow-up takes hours


def test_bounds_on_elements_and_texts():
    with pytest.raises(Malformed, match="in one"):
        read("JUNITXML", "<testsuite><testcase>" + "<a/>" * 20_001 + "</testcase></testsuite>")
    (case,) = read(
        "JUNITXML", "<testsuite><testcase><failure>" + "a<!---->" * 50_000 + "</failure></testcase></testsuite>"
    )
    assert case.message == "a" * 20_000
    with pytest.raises(Malformed, match="MiB"):
        read("SIMPLECOV", b" " * (16 * 1024**2 + 1))
    with pytest.raises(Malformed, match="objects and lists"):
        read("CUCUMBERJSON", b"[" * 500_001)
    with pytest.raises(Malformed, match="not JSON"):
        read("CUCUMBERJSON", b"[" * 400_000)
