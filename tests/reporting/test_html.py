import importlib.util
import itertools
import json
import re

import pytest
import report_factory as factory
from web_page import HOSTILE, Page

from edge_exray import errors
from edge_exray.diagnosis.report import CheckResult, Report, Verdict
from edge_exray.reporting import html as report_html
from edge_exray.reporting.markdown import render_markdown


def render(report: Report) -> Page:
    return Page(report_html.render_html(report))


def test_verdict_and_first_failed_check_come_first():
    page = render(factory.report())
    head = page.text[: page.text.index("From the input to the output")]
    assert "✕ failed" in head
    assert "The app feeds BGR; the edge model must not ship." in head
    assert "Channels of 'image' are reversed." in head
    assert "x[..., [2, 1, 0]]" in head
    assert "87.5 % → 25 %" in head
    assert "62.5 %" in head


def test_all_checks_and_layers_are_there():
    page = render(factory.report(layers=[factory.layer(i) for i in range(40)]))
    for message in ("Channels of 'image' are reversed.", "8 frames are too few.", "All ops are paired."):
        assert message in page.text
    assert "Label flip rate12.5 %" in re.sub(r"\s*\n\s*", "", page.text)
    for kind in ("layer", "row"):
        assert [i for i in page.ids() if re.fullmatch(rf"{kind}-\d+", i)] == [f"{kind}-{i}" for i in range(40)]
    assert "net/block_39/Relu6:0" in page.text


def points(page: Page, series: str, panel: str = "linear") -> list[tuple[float, float]]:
    """Where the dots of a series are, from the left and from the bottom of its panel."""
    opened = [(tag, attributes) for tag, attributes in page.elements if tag in ("g", "path", "div")]
    inside, found = None, []
    for position, (tag, attributes) in enumerate(opened):
        if tag == "div" and "panel" in (attributes.get("class") or "").split():
            inside = attributes["class"].split()[1]
        if tag == "g" and attributes.get("class") == series and inside == panel:
            dots = opened[position + 2][1]["d"]
            found += [(float(x), 100 - float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.e-]+)h0", dots)]
    return found


def test_plots_hold_every_layer_in_graph_order():
    layers = [factory.layer(i, nrmse=i / 10) for i in (2, 0, 1)]
    page = render(factory.report(layers=layers))
    for series in ("quantization", "own", "inherited"):
        (x0, y0), (x1, y1), (x2, y2) = points(page, series)
        assert (x0, x1, x2) == (0.5, 1.5, 2.5)
        assert y0 == 0
        assert y2 == pytest.approx(2 * y1, rel=1e-3)
        assert 90 < y2 < 100
    # Two decades, from 0.01 to 1.
    assert [y for _, y in points(page, "quantization", "log")] == pytest.approx([0, 50, 65.05], abs=0.1)
    texts = json.loads(page.scripts["chart-data"])
    assert texts["layers"] == [0, 1, 2]
    assert "CONV_2D" in texts["texts"][1]
    assert "quantization: nRMSE 0.1" in texts["texts"][1]


def test_a_layer_without_a_figure_is_a_gap():
    layers = [factory.layer(0, nrmse=0.1), factory.layer(1, nrmse=None), factory.layer(2, nrmse=0.2)]
    page = render(factory.report(layers=layers))
    assert [x for x, _ in points(page, "quantization")] == [0.5, 2.5]
    lines = [attributes["d"] for tag, attributes in page.elements if tag == "path" and "L" in attributes["d"]]
    assert lines  # the float conversion has all of its figures
    assert not [line for line in lines if line.startswith("M0.5") and "L2.5" in line and "1.5" not in line]


def test_plots_need_no_script():
    text = report_html.render_html(factory.report())
    bare = Page(re.sub(r"(?s)<script.*?</script>", "", text))
    assert points(bare, "quantization")
    links = {attributes["href"] for tag, attributes in bare.elements if tag == "a"}
    assert {"#layer-0", "#layer-1", "#layer-2"} <= links
    assert ".layer:is(:target, .accused)" in text


def section(page_text: str, start: str, end: str) -> str:
    words = " ".join(page_text.split())
    return words[words.index(start) : words.index(end, words.index(start))]


def test_details_of_a_layer_show_its_figures_its_ranges_and_its_cloud_twin():
    layer = {**factory.layer(1), "quantization": {"scale": [0.5], "zero_point": [-28]}}
    layer["legs"]["quantization"] |= {"reference_dead_share": 0.25, "edge_dead_share": 0.75, "edge_range": [-4.0, 8.0]}
    page = render(factory.report(layers=[factory.layer(0), layer, factory.layer(2)]))
    details = section(page.text, "Layer 1, CONV_2D", "Layer before")
    assert "net/block_1/Relu6:0" in details
    assert "1\N{MULTIPLICATION SIGN}32\N{MULTIPLICATION SIGN}32\N{MULTIPLICATION SIGN}16 int8" in details
    assert "25 % → 75 %" in details
    assert "1.5 \N{MULTIPLICATION SIGN} what rounding causes" in details
    assert "Edge\N{MINUS SIGN}4 to 8" in details
    assert "Edge can hold\N{MINUS SIGN}50 to 77.5" in details  # 0.5 * (-128 + 28) and 0.5 * (127 + 28)


def test_details_of_a_layer_hold_what_the_file_shows_there():
    page = render(factory.report(lint=factory.lint(layer=2)))
    assert "3 of 8 values at the limit" in section(page.text, "Layer 2, CONV_2D", "Legs")
    assert "3 of 8 values at the limit" not in section(page.text, "Layer 1, CONV_2D", "Layer 2, CONV_2D")


def test_how_the_edge_model_was_made_is_told():
    made = {
        "quantization": "recipe",
        "quantizer": "ai_edge_quantizer",
        "recipe": [{"regex": ".*head.*"}],
        "kept_layers": ["net/head"],
        "left_float": [],
        "calibration_frames": 200,
        "notes": ["the batch was fixed to 1"],
        "versions": {"tensorflow": "2.16.2"},
    }
    models = {**factory.report().models}
    page = render(factory.report(models={**models, "edge": {**models["edge"], "conversion": made}}))
    text = section(page.text, "How the edge model was made", "Environment")
    for words in (
        "recipe, by ai_edge_quantizer",
        "200 frames",
        "net/head",
        "2.16.2",
        ".*head.*",
        "The batch was fixed",
    ):
        assert words in text
    assert "How the edge model was made" not in render(factory.report()).text


def test_classes_go_by_their_names():
    text = " ".join(render(factory.report(classes=["cat", "dog"])).text.split())
    assert "label dog (1)" in text
    assert "dog (1)0.75cat (0)1" in text


def test_the_shares_of_the_legs_and_the_layer_to_blame_are_told():
    page = render(factory.report(attribution=factory.attribution(layer=2), suspects=[]))
    head = page.text[: page.text.index("From the input to the output")]
    assert "Quantization makes 75 % of the error, conversion 25 %." in head
    text = section(page.text, "Where the error enters", "Drift of each layer")
    assert "Quantization75 %, nRMSE 0.2" in text
    assert "Kernel0 %" in text
    shares = [a["style"] for tag, a in page.elements if tag == "span" and "flex-grow:0" in (a.get("style") or "")]
    assert shares == ["flex-grow:0.75", "flex-grow:0.25"]
    accused = section(page.text, "Suspects", "Legs")
    assert "Layer 2, CONV_2D. It adds the most to the error of the quantization leg." in accused
    assert [a["id"] for tag, a in page.elements if tag == "tr" and a.get("class") == "suspect"] == ["row-2"]
    assert next(a["data-first"] for _, a in page.elements if a.get("id") == "chart") == "2"


def test_hypotheses_stand_in_their_order_beside_pictures():
    found = factory.report().preprocessing["image"] | {
        "hypothesis": "BGR and nearest",
        "code": "near(x)[..., ::-1]",
        "hypotheses": [
            {
                "description": "BGR and nearest",
                "kinds": ["resize"],
                "code": "near(x)[..., ::-1]",
                "residual": 0.01,
                "explains": True,
            },
            {
                "description": "BGR",
                "kinds": ["channel_order"],
                "code": "x[..., ::-1]",
                "residual": 0.2,
                "explains": False,
            },
        ],
        "pictures": [
            {"id": "f1", "reference": "data:a", "edge": "data:b"},
            {"id": "f2", "reference": "data:c", "edge": "data:d"},
        ],
    }
    # The field that holds them is not this room's: the page takes it as it comes.
    page = render(factory.report(preprocessing={"image": found}, worst_frames=[]))
    text = section(page.text, "Inputs image", "Where the error enters")
    assert text.index("BGR and nearest. This leaves 1 %") < text.index("BGR. This leaves 20 %")
    assert "near(x)[..., ::-1]" in page.text[: page.text.index("From the input to the output")]
    # What only comes closest is nothing to undo.
    closest = found["hypotheses"][1:]
    unknown = found | {"hypothesis": "unknown difference, closest comes BGR", "code": None, "hypotheses": closest}
    told = render(factory.report(preprocessing={"image": unknown}, worst_frames=[])).text
    assert "Unknown difference, closest comes BGR." in told[: told.index("From the input to the output")]
    assert "undo it in the app" not in told
    assert "No hypothesis explains the difference. These come closest:" in told
    summary = render_markdown(factory.report(preprocessing={"image": unknown}))
    assert "**Input `image`.** Unknown difference, closest comes BGR." in summary
    assert "Reference to app" not in summary
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["src"] for image in images] == ["data:a", "data:b", "data:c", "data:d"]
    assert images[1]["alt"] == "Input image of frame f1, app"


def test_slices_instability_and_baseline_are_told():
    slices = [
        {"slice": "city:Rome", "frames": 8, "label_flip_rate": 0.25, "interval": [0.1, 0.5], "cloud_accuracy": 0.75}
        | {"edge_accuracy": 0.5},
        {"slice": "city:Oslo", "frames": 4, "label_flip_rate": None, "interval": None, "cloud_accuracy": None}
        | {"edge_accuracy": None},
    ]
    figures = [
        {"name": "label_flip_rate", "baseline": 0.01, "now": 0.25, "regressed": True},
        {"name": "worst_layer_nrmse", "baseline": None, "now": 0.25, "regressed": False},
    ]
    baseline = {"report": "/blessed/report.json", "figures": figures}
    fields = {"slices": slices, "instability": factory.instability(), "baseline": baseline, "classes": ["cat", "dog"]}
    page = render(factory.report(**fields))
    assert "city:Rome825 % 10 % to 50 % 75 %50 %" in section(page.text, "Slices How often", "Instability On")
    text = section(page.text, "Instability On", "Baseline Against")
    assert "On 25 % of 8 labelled frames (10 % to 50 % of all)" in text
    assert "jpeg 6062.5 % it aborted" in text
    assert "cat/1.pngcat (0)cat (0)dog (1)" in text
    text = section(page.text, "Baseline Against", "Worst frames")
    assert "/blessed/report.json" in text
    assert "Label flip rate1 %25 %worse" in text
    assert "None" not in page.text
    assert {"slices", "instability", "baseline"} <= set(page.ids())
    assert {"slices", "instability", "baseline"}.isdisjoint(render(factory.report()).ids())
    unlabelled = render(factory.report(instability=factory.instability(share=None)))
    assert "37.5 % of 8 frames get several answers" in " ".join(unlabelled.text.split())


def test_an_interval_and_the_frames_that_it_takes_are_told():
    evidence = {"label_flip_rate": 0.125, "interval": [0.003, 0.527], "confidence": 0.95, "needed_frames": 1200}
    check = CheckResult("label_flip_rate", Verdict.INCONCLUSIVE, "8 frames are too few.", evidence)
    text = " ".join(render(factory.report(Verdict.INCONCLUSIVE, checks=[check], suspects=[])).text.split())
    assert (
        "8 frames are too few. 0.3 % to 52.7 %, each bound with a confidence of 95 %. Frames needed to be sure: 1,200."
        in text
    )


def test_suspect_rows_are_marked():
    page = render(factory.report())
    marked = [a["id"] for tag, a in page.elements if tag == "tr" and a.get("class") == "suspect"]
    assert marked == ["row-0"]


@pytest.mark.parametrize("name", [HOSTILE, "\x00\x1b[31m", "\ud800", "a" * 5000])
def test_hostile_names_stay_text(name):
    checks = [CheckResult(name, Verdict.FAILED, name, {name: [{name: name}], "layers": {name: {name: 1.0}}})]
    report = factory.report(
        layers=[factory.layer(0, name=name)],
        checks=checks,
        environment={name: name},
        summary=name,
        worst_frames=[factory.worst_frame(name)],
        lint=factory.lint(name=name),
    )
    page = render(report)
    benign = render(factory.report(layers=[factory.layer(0, name="b")], checks=checks, summary="b"))
    assert name in page.text
    assert set(page.scripts) == {"chart-data", None}
    images = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
    assert set(images) == {"data:image/png;base64,AAAA", "data:image/png;base64,BBBB"}
    assert not [e for e in page.elements if any(a.startswith("on") for a in e[1])]
    assert page.scripts[None] == benign.scripts[None]


def test_nothing_is_loaded_from_elsewhere():
    text = report_html.render_html(factory.report(kernels=factory.kernels()))
    page = Page(text)
    for tag, attributes in page.elements:
        for key in ("src", "href", "data", "action", "poster"):
            assert attributes.get(key, "#").startswith(("#", "data:image/png;base64,")), (tag, attributes)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_links_lead_somewhere():
    page = render(factory.report(kernels=factory.kernels()))
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= set(ids)


def test_headings_and_landmarks_are_in_order():
    fields = {"slices": [], "instability": factory.instability(), "attribution": factory.attribution()}
    page = render(factory.report(kernels=factory.kernels(), **fields))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    landmarks = [tag for tag, _ in page.elements if tag in ("header", "nav", "main", "footer")]
    assert landmarks == ["header", "nav", "main", "footer"]
    named = {a["aria-labelledby"] for _, a in page.elements if "aria-labelledby" in a}
    assert named <= set(page.ids())


def test_tables_have_scoped_headers():
    page = render(factory.report(kernels=factory.kernels()))
    assert all(a.get("scope") in ("col", "row") for tag, a in page.elements if tag == "th")


def test_null_figures_are_dashes():
    layers = [
        factory.layer(0, nrmse=None),
        {**factory.layer(1), "quantization": None, "cloud_tensor": None, "legs": {}},
    ]
    nothing = {"output": None, "cloud": None, "edge": None, "label_flip_rate": None}
    unknown = {"identical": False, "hypothesis": None, "code": None, "residual": None}
    report = factory.report(layers=layers, accuracy=nothing, preprocessing={"image": unknown}, suspects=[])
    page = render(report)
    assert "None" not in page.text
    assert "no hypothesis explains" in page.text
    assert "Accuracy" not in page.text
    assert not points(page, "quantization")


def test_nan_becomes_a_dash():
    page = render(factory.report(layers=[factory.layer(0, nrmse=float("nan"))]))
    assert "nan" not in page.text
    assert "quantization: nRMSE \N{EN DASH}" in json.loads(page.scripts["chart-data"])["texts"][0]


def test_without_any_layer_there_is_no_chart():
    page = render(factory.report(Verdict.PASSED, layers=[], suspects=[], preprocessing={}, legs={}))
    assert "No leg was compared layer by layer." in page.text
    assert "chart" not in page.ids()
    assert set(page.scripts) == {None}


def test_passed_report_has_nothing_to_start_with():
    page = render(factory.report(Verdict.PASSED, suspects=[]))
    assert "✓ passed" in page.text
    assert "Start here" not in page.text


def test_worst_frames_show_both_sides_of_their_inputs_and_answers():
    page = render(factory.report())
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert [image["src"] for image in images[:2]] == ["data:image/png;base64,AAAA", "data:image/png;base64,BBBB"]
    assert images[0]["alt"] == "Input image of frame cat/1.png, reference"
    words = " ".join(page.text.split())
    assert "1. cat/1.png" in words
    assert "Drift 0.5, label 1" in words
    assert "Drift infinite" in words
    assert "10.7501" in words  # the first row: class 1 with 0.75 in the cloud, class 0 with 1 on the edge
    assert "data.gz#7" in words


def test_failed_frames_are_told_at_the_top():
    frames = {"count": 8, "labelled": 8, "failed": 2, "repeated_ids": 0}
    page = render(factory.report(frames=frames))
    assert "2 more failed" in page.text[: page.text.index("From the input to the output")]


def test_per_channel_quantization_shows_its_range():
    layer = {**factory.layer(0), "quantization": {"scale": [0.5, 0.25, 0.125], "zero_point": [0, 0, 0]}}
    assert "0.125 to 0.5" in render(factory.report(layers=[layer])).text


def test_kernels_are_listed_slowest_first_and_a_broken_budget_is_told_at_the_top():
    profile = factory.kernels("failed", layers=12)
    profile["models"][0]["ops"][7]["ms"] = 9.0
    text = render(factory.report(kernels=profile)).text
    assert "The budgets were looked at." in text[: text.index("Start here")]
    assert text.index("kernel_7") < text.index("kernel_0")
    assert "The other 2" in text
    assert "1.25 ms" in text


def test_four_hundred_layers_stay_below_three_megabytes():
    layers = [factory.layer(i) for i in range(400)]
    size = len(report_html.render_html(factory.report(layers=layers, kernels=factory.kernels(layers=400))).encode())
    assert size < 3_000_000


def test_missing_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    with pytest.raises(errors.ExrayError, match=r"jinja2.*pip install edge-exray\[report\]"):
        report_html.render_html(factory.report())


def test_static_findings_stand_in_their_section_and_at_the_suspect():
    page = render(factory.report())
    assert "lint" in page.ids()
    assert "2 errors, 1 warning, 0 notes" in page.text
    assert "0 of subgraph 2, CONV_2D" in page.text
    # At the suspect, layer 0, stands what concerns it: not the finding in a body, nor that on the whole model.
    assert page.text.count("3 of 8 values at the limit") == 4
    at_suspect = section(page.text, "Layer 0, CONV_2D suspect", "Layer 1, CONV_2D")
    assert at_suspect.count("3 of 8 values at the limit") == 1
    bare = render(factory.report(lint=None))
    assert "lint" not in bare.ids()
    assert "shows at this layer" not in bare.text
