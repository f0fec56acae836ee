"""JUnit XML of a report, so that any CI system lists the checks as tests."""

import json
import re
from typing import Any
from xml.etree import ElementTree

from edge_exray.diagnosis.report import Report
from edge_exray.reporting import gist

# Characters that XML 1.0 cannot hold, not even escaped: a tensor name may contain them.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render_junit(report: Report) -> str:
    """Returns the report as JUnit XML: one test case per check.

    A failed check is a `<failure>`, one that is inconclusive or broken itself an `<error>`: CI systems count both
    as not passed, as the gate does. The checks of a kernel profile are a suite of their own.
    """
    document = report.to_dict()
    suites = {"edge-exray.validation": document["checks"]}
    if document["kernels"]:
        suites["edge-exray.kernels"] = document["kernels"]["checks"]
    everything = [check for checks in suites.values() for check in checks]
    root = ElementTree.Element("testsuites", {"name": "edge-exray", **_counts(everything)})
    for name, checks in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", {"name": name, **_counts(checks)})
        for check in checks:
            _add_case(suite, name, check)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(checks: list[dict[str, Any]]) -> dict[str, str]:
    tags = [_tag(check) for check in checks]
    return {
        "tests": str(len(tags)),
        "failures": str(tags.count("failure")),
        "errors": str(tags.count("error")),
        "skipped": "0",
        "time": "0",
    }


def _add_case(suite: ElementTree.Element, classname: str, check: dict[str, Any]) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=classname, name=_legal(check["name"]), time="0")
    evidence = _legal(json.dumps(check["evidence"], indent=1, ensure_ascii=False))
    tag = _tag(check)
    if tag is None:
        ElementTree.SubElement(case, "system-out").text = f"{_legal(check['message'])}\n{evidence}"
        return
    finding = ElementTree.SubElement(case, tag, message=_legal(check["message"]), type=check["verdict"])
    finding.text = evidence


def _tag(check: dict[str, Any]) -> str | None:
    if check["verdict"] == "passed":
        return None
    return "failure" if check["verdict"] == "failed" and not gist.is_broken(check) else "error"


def _legal(text: str) -> str:
    return _ILLEGAL.sub(lambda m: f"\\u{ord(m.group()):04x}", text)
