import json

import report_factory as factory

from edge_exray.reporting import overlay


def own_error(nrmse, inherited):
    return {"nrmse": nrmse, "rmse": nrmse, "ratio": 1.0, "inherited_nrmse": inherited}


def test_a_file_for_each_figure_in_the_form_of_custom_node_data():
    layers = [{**factory.layer(i, nrmse=i / 10), "own_error": own_error(i / 20, i / 40)} for i in (1, 0, 2)]
    documents = {
        name: json.loads(text) for name, text in overlay.render_overlays(factory.report(layers=layers)).items()
    }
    figures = {name: {node: r["value"] for node, r in d["results"].items()} for name, d in documents.items()}
    assert figures == {
        "own_error.json": {"0": 0.0, "1": 0.05, "2": 0.1},
        "inherited_error.json": {"0": 0.0, "1": 0.025, "2": 0.05},
        "quantization_nrmse.json": {"0": 0.0, "1": 0.1, "2": 0.2},
        "conversion_nrmse.json": {"0": 0.0, "1": 0.0, "2": 0.0},
    }
    for document in documents.values():
        # `GraphNodeData` of model_explorer.node_data_builder; the stops 0 and 1 are required.
        assert document.keys() == {"results", "gradient"}
        assert [item["stop"] for item in document["gradient"]] == sorted(item["stop"] for item in document["gradient"])
        assert {0, 1} <= {item["stop"] for item in document["gradient"]}
        assert all(item["bgColor"].startswith("#") for item in document["gradient"])


def test_a_layer_that_is_not_finite_has_a_colour_of_its_own():
    layers = [factory.layer(0), factory.layer(1, nrmse=None), {**factory.layer(2), "legs": {}, "own_error": None}]
    results = json.loads(overlay.render_overlays(factory.report(layers=layers))["quantization_nrmse.json"])["results"]
    assert results["1"]["value"] == "NaN or infinite"
    assert results["1"]["bgColor"]
    assert results.keys() == {"0", "1"}
