import copy
import json

import pytest
import report_factory as factory
from web_page import HOSTILE, Page

from edge_exray.reporting.overlay import render_latency
from edge_exray.reporting.profile_html import render_profile


@pytest.fixture
def document():
    return factory.kernels("failed", layers=12)


def text_of(document) -> str:
    return " ".join(Page(render_profile(document)).text.split())


def test_the_least_that_a_profile_may_have_makes_a_page(document):
    text = text_of(document)
    assert "✕ failed" in text
    assert "P50 latency exceeds its budget. The median is 1.25 ms." in text
    assert "1.25 ms" in text
    assert "kernel_11" in text
    assert "The other 2" in text
    for absent in ("Stragglers", "Comparison", "Groups", "GFLOP/s"):
        assert absent not in text


def test_every_part_that_is_there_is_shown(document):
    document["stragglers"] = [
        {
            "role": "edge",
            "index": 3,
            "op": "MEAN",
            "name": "slow_one",
            "kind": "reference_kernel",
            "reason": "it runs on a reference kernel",
            "ms": 0.5,
            "saving_ms": 0.4,
        }
    ]
    document["groups"] = [
        {"role": "edge", "by": by, "name": name, "ops": 2, "ms": 1.0, "share": 0.8}
        for by, name in (("op", "CONV_2D"), ("layer", "block_1"))
    ]
    document["comparison"] = {
        "columns": [
            {"role": "edge", "device": None, "kernels": "xnnpack", "total_ms": 1.25, "ratio": 1.0},
            {"role": "edge@phone", "device": "phone", "kernels": "gpu", "total_ms": 2.5, "ratio": 2.0},
        ],
        "groups": [{"op": "CONV_2D", "ops": [12, 1], "ms": [1.0, None], "ratio": [1.0, None]}],
        "ops": [{"index": 0, "op": "CONV_2D", "name": "kernel_0", "ms": [0.5, 1.5], "ratio": [1.0, 3.0]}],
    }
    document["machine"] = {"cpu": "a processor"}
    edge = document["models"][0]
    phone = copy.deepcopy(edge) | {
        "role": "edge@phone",
        "device": {"name": "phone", "source": "phone.txt", "matched": 12},
        "profiler_note": "the mean stands for the median",
        "bytes": None,
        "num_threads": None,
        "memory_bytes": None,
        "init_ms": None,
    }
    phone["latency_ms"] |= {"p90": None, "p99": None, "intervals": {"p50": None, "p90": [1.5, 2.5], "p99": None}}
    document["models"].append(phone)
    edge["latency_ms"] |= {"intervals": {"p50": [1.2, 1.3]}, "confidence": 0.95}
    edge["ops"][0] |= {"gflops_per_s": 12.5, "interval_ms": [0.4, 0.6], "layer": "block_1"}
    text = text_of(document)
    for shown in (
        "It runs on a reference kernel.",
        "0.4 ms",
        "Reference kernel",
        "by layer of the cloud model",
        "Edge on phone",
        "3 \N{MULTIPLICATION SIGN}",
        "2 \N{MULTIPLICATION SIGN}",
        "a processor",
        "The mean stands for the median.",
        "1.5 to 2.5",
        "1.2 to 1.3 ms",
        "12.5",
        "GFLOP/s",
    ):
        assert shown in text, shown


def test_the_plot_has_a_line_for_each_machine_that_ran_the_same_ops(document):
    document["models"].append(
        {**document["models"][0], "role": "edge@phone", "device": {"name": "phone", "source": ""}}
    )
    page = Page(render_profile(document))
    lines = [attributes["class"] for tag, attributes in page.elements if tag == "g"]
    assert lines == ["line0", "line1"]


def test_names_from_a_file_are_text_and_nothing_is_loaded(document):
    document["summary"] = document["models"][0]["path"] = HOSTILE
    for op in document["models"][0]["ops"]:
        op["name"] = op["op"] = op["kernel"] = HOSTILE
    page = Page(render_profile(document))
    assert not {"img", "script", "link"} & {tag for tag, _ in page.elements}
    assert HOSTILE.split("\u2028")[0] in page.text
    assert len(page.ids()) == len(set(page.ids()))


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [("failed", "Latency p50 exceeds its budget."), ("inconclusive", "Latency p50 cannot be decided.")],
)
def test_the_headline_of_one_budget_is_short_and_the_message_stands_below(document, verdict, headline):
    message = "the latency is 5 ms: " + "make the slowest ops cheaper; " * 20
    document |= {
        "verdict": verdict,
        "summary": message,
        "checks": [{"name": "latency_p50", "verdict": verdict, "message": message, "evidence": {}}],
    }
    page = render_profile(document)
    assert f"<h1>{headline}</h1>" in page
    assert '<p class="second">The latency is 5 ms: make' in page


def test_the_headline_without_a_budget_says_so(document):
    document |= {"verdict": "passed", "summary": "Measured; no budget is set: p50 latency 5 ms, 7 bytes", "checks": []}
    assert "<h1>Measured; no budget is set.</h1>" in render_profile(document)


def test_several_exceeded_budgets_are_counted_in_the_headline(document):
    document["checks"] *= 3
    assert "3 of 3 budgets are not kept. The median is 1.25 ms." in text_of(document)


def test_the_overlay_has_the_time_of_every_node(document):
    ops = [{"index": 0, "ms": 0.5}, {"index": 1, "ms": 2.0, "covers": [1, 4]}]
    overlay = json.loads(render_latency(ops))
    assert overlay["results"] == {"0": {"value": 0.5}, "1": {"value": 2.0}, "4": {"value": 2.0}}
    assert {0, 1} <= {stop["stop"] for stop in overlay["gradient"]}
