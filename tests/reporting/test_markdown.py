import re

import report_factory as factory

from edge_exray.diagnosis.report import CheckResult, Verdict
from edge_exray.reporting import markdown


def test_verdict_cause_figures_checks_and_suspects_are_told():
    text = markdown.render_markdown(factory.report(kernels=factory.kernels()))
    assert text.startswith("## ❌ Failed: `edge.tflite`\n\nThe app feeds BGR; the edge model must not ship.\n")
    assert "**Input `image`.** Channels reversed. Reference to app: `x[..., [2, 1, 0]]`" in text
    assert "| Accuracy | 87.5 % | 25 % |" in text
    assert "| Labels flipped |  | 62.5 % |" in text
    assert "| Latency, median |  | 1.25 ms |" in text
    assert "| Frames |  | 8, 8 labelled |" in text
    assert "| ❌ | Preprocessing | Channels of 'image' are reversed. |" in text
    assert "| ❔ | Label flip rate | 8 frames are too few. |" in text
    assert re.search(r"\| 0, CONV_2D \| `net/block_0/[^`]*` \| quantization \| It jumps\. \|", text)


def test_checks_that_passed_are_folded():
    text = markdown.render_markdown(factory.report())
    shown, folded = text.split("<details><summary>Checks that passed: 1</summary>\n\n")
    assert "Alignment coverage" not in shown
    assert "| ✅ | Alignment coverage | All ops are paired. |" in folded.split("\n\n</details>")[0]
    passed = [CheckResult("frames", Verdict.PASSED, "All frames were replayed.")]
    assert "### Checks" not in markdown.render_markdown(factory.report(Verdict.PASSED, checks=passed, suspects=[]))


def test_an_interval_stands_beside_the_finding():
    evidence = {"label_flip_rate": 0.125, "interval": [0.003, 0.527], "confidence": 0.95, "needed_frames": 1200}
    checks = [CheckResult("label_flip_rate", Verdict.INCONCLUSIVE, "8 frames are too few.", evidence)]
    text = markdown.render_markdown(factory.report(Verdict.INCONCLUSIVE, checks=checks))
    interval = "0.3 % to 52.7 %, each bound with a confidence of 95 %"
    assert f"8 frames are too few. {interval}. Frames needed to be sure: 1,200. |" in text


def test_attribution_and_regression_are_told():
    figures = [
        {"name": "label_flip_rate", "baseline": 0.01, "now": 0.25, "regressed": True},
        {"name": "edge_accuracy", "baseline": 0.9, "now": 0.9, "regressed": False},
    ]
    baseline = {"report": "/blessed/report.json", "figures": figures}
    text = markdown.render_markdown(factory.report(attribution=factory.attribution(), baseline=baseline))
    assert "**Where the error comes from.** Quantization makes 75 % of the error, conversion 25 %." in text
    assert "| Label flip rate | 1 % | 25 % |" in text
    assert "Edge accuracy" not in text


def test_names_stay_text():
    name = "a|b`` </td>\n# @someone *x* [y](z)"
    checks = [CheckResult("my_check", Verdict.FAILED, name), CheckResult("other", Verdict.FAILED, "_x_ of a_b")]
    report = factory.report(checks=checks, layers=[factory.layer(0, name=name)], summary=name)
    text = markdown.render_markdown(report)
    assert "a|b\\`\\` \\</td> # @\N{ZERO WIDTH SPACE}someone \\*x\\* \\[y](z)" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "CONV_2D" in row or "My check" in row}
    assert widths == {4, 5}
    assert "``` a\\|b`` </td> # @someone *x* [y](z) ```" not in text
    assert "```a\\|b`` </td> # @someone *x* [y](z)```" in text
    assert "\\_x\\_ of a_b" in text


def test_it_fits_into_a_comment():
    check = CheckResult("own", Verdict.FAILED, "long " * 5000)
    suspects = factory.report().suspects * 500
    report = factory.report(checks=[check] * 40, suspects=suspects, summary="x" * 10_000)
    assert len(markdown.render_markdown(report)) < 65_536
