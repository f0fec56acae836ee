import pytest

from edge_exray.reporting import formats

DASH = "\N{EN DASH}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (True, "yes"),
        (12345, "12,345"),
        (0.0, "0"),
        (-0.25, "\N{MINUS SIGN}0.25"),
        (1.0, "1"),
        (0.99999988, "1"),
        (0.0235, "0.0235"),
        (1.2e-7, "1.2e-7"),
        (999.7, "1,000"),
        (123456.0, "123,456"),
        (3e9, "3.0e9"),
        (1e-100, "1.0e-100"),
    ],
)
def test_number(value, text):
    assert formats.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, DASH),
        (0.0, "0 %"),
        (1e-7, "<0.1 %"),
        (0.687, "68.7 %"),
        (0.99999, ">99.9 %"),
        (1.0, "100 %"),
        (-0.02, "\N{MINUS SIGN}2 %"),
    ],
)
def test_percent_rounds_nothing_away(value, text):
    assert formats.percent(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, DASH),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_999, "1 MB"),
        (3_180_422, "3.18 MB"),
        (5 * 10**12, "5 TB"),
    ],
)
def test_size(count, text):
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        (0.05, "max_label_flip_rate", "5 %"),
        (0.05, "nrmse", "0.05"),
        (16000.0, "sample_rate", "16,000"),
        (5.114, "p50_ms", "5.11 ms"),
        (None, "p50_ms", DASH),
        (4_480_000, "size_bytes", "4.48 MB"),
        (35.0, "sqnr_db", "35 dB"),
        (0.99999988, "r2", ">0.999"),
        (1.0, "r2", "1"),
        (None, "r2", DASH),
        ("a_b", "note", "a_b"),
    ],
)
def test_figure_knows_the_unit_by_the_key(value, key, text):
    assert formats.figure(value, key) == text


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("label_flip_rate", "Label flip rate"),
        ("nrmse", "nRMSE"),
        ("worst_nrmse", "Worst nRMSE"),
        ("net/conv_1", "net/conv_1"),
        ("", ""),
        ("__", "__"),
    ],
)
def test_words_leave_names_alone(identifier, text):
    assert formats.words(identifier) == text


def test_span():
    assert formats.span([-1.0, 1.0]) == "\N{MINUS SIGN}1 to 1"
    assert formats.span([None, 1.0]) == f"{DASH} to 1"
    assert formats.span([None, None]) == DASH
    assert formats.span(None) == DASH


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/edge.tflite", "edge.tflite"),
        ("edge.tflite", "edge.tflite"),
        ("/root/wine/EdgeConverter/edge_model/3/Format-Serving/tflite", "wine / EdgeConverter / edge_model / 3"),
        ("gs://bucket/tflite", "tflite"),
    ],
)
def test_model_name_tells_runs_of_a_pipeline_apart(path, name):
    assert formats.model_name(path) == name


@pytest.mark.parametrize(
    ("name", "evidence", "text"),
    [
        ("label_flip_rate", {"interval": [0.0, 0.25]}, "0 % to 25 %."),
        (
            "accuracy_drop",
            {"interval": [-0.145, 0.5], "confidence": 0.95},
            "\N{MINUS SIGN}14.5 % to 50 %, each bound with a confidence of 95 %.",
        ),
        (
            "output_drift",
            {"interval": [0.01, 0.02], "needed_frames": 1200},
            "0.01 to 0.02. Frames needed to be sure: 1,200.",
        ),
        ("mine", {"needed_frames": 133}, "Frames needed to be sure: 133."),
        ("mine", {"limit": 3}, ""),
    ],
)
def test_certainty(name, evidence, text):
    assert formats.certainty({"name": name, "evidence": evidence, "message": "8 of 13 frames differ."}) == text


@pytest.mark.parametrize("message", ["Give at least 1200.", "Give at least 1,200."])
def test_certainty_is_not_told_twice(message):
    evidence = {"interval": [0.0, 0.25], "needed_frames": 1200}
    assert formats.certainty({"name": "mine", "evidence": evidence, "message": message}) == ""


def test_a_headline_is_the_first_two_sentences():
    head, rest = "The edge model must not ship. The app feeds x[..., ::-1] (version 2.5).", "Undo it. It is 5.0% off."
    assert formats.headline(f"{head} {rest}") == (head, rest)
    assert formats.headline(head) == (head, "")
    assert formats.headline("Passed.") == ("Passed.", "")
