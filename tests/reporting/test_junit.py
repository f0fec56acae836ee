from xml.etree import ElementTree

import report_factory as factory

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.reporting import junit


def test_one_case_per_check_and_matching_counts():
    root = ElementTree.fromstring(junit.render_junit(factory.report(kernels=factory.kernels("failed"))))
    validation, kernels = root.findall("testsuite")
    assert [c.get("name") for c in validation] == ["preprocessing", "label_flip_rate", "alignment_coverage"]
    assert [c.get("name") for c in kernels] == ["p50_latency"]
    for suite in (root, validation, kernels):
        assert int(suite.get("tests")) == len(list(suite.iter("testcase")))
        assert int(suite.get("failures")) == len(list(suite.iter("failure")))
        assert int(suite.get("errors")) == len(list(suite.iter("error")))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "2", "1")


def test_findings_carry_message_and_evidence():
    root = ElementTree.fromstring(junit.render_junit(factory.report()))
    failure, error = root.find(".//failure"), root.find(".//error")
    assert failure.get("message") == "Channels of 'image' are reversed."
    assert "permutation" in failure.text
    assert (error.get("type"), error.get("message")) == ("inconclusive", "8 frames are too few.")


def test_characters_that_xml_cannot_hold_are_spelled_out():
    check = CheckResult("a\x00b", Verdict.FAILED, "<\x1b>&\ud800", {"é]]>": "\ufffe"})
    root = ElementTree.fromstring(junit.render_junit(factory.report(checks=[check])).encode())
    case = root.find(".//testcase")
    assert case.get("name") == "a\\u0000b"
    assert case.find("failure").get("message") == "<\\u001b>&\\ud800"
    assert "é]]>" in case.find("failure").text
