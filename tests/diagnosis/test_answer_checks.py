"""Checks of the answers: on answers that were made up, so that every figure is known."""

import types

import numpy as np
import pytest

from edge_exray import errors
from edge_exray.diagnosis.answers import read_answers
from edge_exray.diagnosis.checks import answers
from edge_exray.diagnosis.evidence import Evidence
from edge_exray.diagnosis.report import Verdict
from edge_exray.diagnosis.spec import ValidationSpec
from edge_exray.drift.statistics import DriftStatistics

CLASSES = 4


def evidence(cloud, edge, labels=None, slices=None, environments=None, **limits) -> Evidence:
    """Evidence of a replay with these classes; `slices` has one value a frame, -1 as an environment's class died."""

    def scores(answer: int) -> np.ndarray:
        return np.eye(CLASSES, dtype=np.float32)[answer]

    predictions = []
    for i, (one, other) in enumerate(zip(cloud, edge, strict=True)):
        frame = {"frame_id": np.array([str(i).encode()], object), "cloud/y": scores(one), "edge/y": scores(other)}
        if labels is not None:
            frame["label"] = np.array([labels[i]])
        if slices is not None:
            frame["part"] = np.array([slices[i].encode()], object)
        for name, classes in (environments or {}).items():
            died = classes[i] < 0
            frame[f"env/{name}" + "/y" * (not died)] = np.array([b"it died"], object) if died else scores(classes[i])
        predictions.append(frame)
    outputs = {"y": [-1, CLASSES]}
    parts = [f"part:{value}" for value in sorted(set(slices or ()))]
    replay = types.SimpleNamespace(summary={"outputs": outputs}, slices=parts)
    return Evidence(replay, ValidationSpec(**limits), read_answers(predictions, outputs, parts), {}, 0)


def flipped(frames: int, flips: int, **options) -> Evidence:
    """Cloud and labels are 0; the edge answers 1 in the first `flips` frames."""
    edge = [1] * flips + [0] * (frames - flips)
    return evidence([0] * frames, edge, **{"labels": [0] * frames} | options)


@pytest.mark.parametrize(
    ("frames", "flips", "flip_rate", "accuracy"),
    [
        (400, 2, Verdict.PASSED, Verdict.PASSED),
        (20, 0, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (20, 1, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (20, 12, Verdict.FAILED, Verdict.FAILED),
        (400, 20, Verdict.INCONCLUSIVE, Verdict.FAILED),
        (400, 40, Verdict.FAILED, Verdict.FAILED),
    ],
)
def test_verdicts_need_the_whole_interval(frames, flips, flip_rate, accuracy):
    found = flipped(frames, flips)
    for check, verdict in ((answers.label_flip_rate, flip_rate), (answers.accuracy_drop, accuracy)):
        result, _ = check(found)
        low, high = result.evidence["interval"]
        assert low <= flips / frames <= high
        assert result.verdict is verdict, result.message
        if verdict is Verdict.INCONCLUSIVE:
            needed = result.evidence["needed_frames"]
            assert needed > frames
            assert f"{frames} frames are too few to tell" in result.message
            assert f"give at least {needed}" in result.message


def test_a_drop_is_judged_by_pairs():
    """Both sides are wrong on 80 frames, each on its own: the answers differ, the accuracy does not."""
    found = evidence([0] * 920 + [1] * 80, [0] * 840 + [1] * 80 + [0] * 80, labels=[0] * 1000, max_accuracy_drop=0.03)
    result, _ = answers.accuracy_drop(found)
    assert (result.evidence["lost"], result.evidence["gained"], result.evidence["p_value"]) == (80, 80, 1.0)
    assert result.verdict is Verdict.PASSED
    assert answers.label_flip_rate(found)[0].verdict is Verdict.FAILED


def test_more_confidence_takes_more_frames():
    sure, surer = (answers.label_flip_rate(flipped(60, 0, confidence=c))[0] for c in (0.95, 0.99))
    assert (sure.verdict, surer.verdict) == (Verdict.PASSED, Verdict.INCONCLUSIVE)
    assert surer.evidence["needed_frames"] == 90  # the first n with 0.95 ** n <= 0.01


def test_one_bad_slice_fails_though_the_whole_does_not():
    parts = ["dark"] * 50 + ["bright"] * 950
    result, _ = answers.slices(flipped(1000, 15, slices=parts))
    assert answers.label_flip_rate(flipped(1000, 15))[0]
    assert result.verdict is Verdict.FAILED
    assert result.evidence["accused"] == ["part:dark"]
    assert "Slice part:dark is worse than allowed" in result.message


def test_many_healthy_slices_accuse_nobody():
    """Every twentieth of single tests on rates at the limit is significant; 100 of them are not, together."""
    rng = np.random.default_rng(4)
    parts = [f"{i % 100:02}" for i in range(8000)]
    edge = (rng.random(len(parts)) < 0.05).astype(int)
    found = evidence([0] * len(parts), edge, slices=parts)
    result, _ = answers.slices(found)
    raw = [part.flipped.p_beyond(0.05) for part in found.slices.values()]
    assert min(raw) < 0.05
    assert result.verdict is Verdict.PASSED
    assert len(result.evidence["p_values"]) == 100


def test_without_slices_or_classes_there_is_nothing_to_say():
    assert answers.slices(flipped(20, 0)) is None
    assert answers.instability(flipped(20, 0)) is None


@pytest.mark.parametrize(
    ("limit", "verdict"),
    [(None, Verdict.PASSED), (0.5, Verdict.PASSED), (0.25, Verdict.INCONCLUSIVE), (0.1, Verdict.FAILED)],
)
def test_instability_is_the_share_that_is_right_here_and_wrong_there(limit, verdict):
    # By fours: right everywhere; wrong in b; wrong everywhere, each in another way; wrong everywhere alike.
    edge, b, labels = [0, 1, 2, 3] * 25, [0, 2, 1, 3] * 25, [0, 1, 0, 0] * 25
    found = evidence(labels, edge, labels, environments={"b": b}, max_instability=limit)
    result, _ = answers.instability(found)
    assert result.verdict is verdict
    assert result.evidence["instability"] == 0.25
    assert result.evidence["disagreement"] == 0.5
    document = found.instability.to_dict(0.95)
    assert document["environments"] == [
        {"name": "edge", "accuracy": 0.5, "died": None},
        {"name": "b", "accuracy": 0.25, "died": None},
    ]
    assert document["unstable"][0] == {"id": "1", "label": 1, "answers": {"edge": 1, "b": 2}}
    assert (len(document["unstable"]), document["frames"]) == (20, 100)


@pytest.mark.parametrize(("frames", "verdict"), [(400, Verdict.PASSED), (10, Verdict.INCONCLUSIVE)])
def test_without_labels_agreement_bounds_the_instability(frames, verdict):
    same = [0] * frames
    found = evidence(same, same, environments={"b": same}, max_instability=0.01)
    result, _ = answers.instability(found)
    assert result.verdict is verdict
    assert found.instability.to_dict(0.95)["instability"] is None
    apart, _ = answers.instability(evidence(same, same, environments={"b": [1] * frames}, max_instability=0.01))
    assert apart.verdict is Verdict.INCONCLUSIVE
    assert "label_fn" in apart.message


def test_an_environment_that_died_is_told_and_no_pass():
    same = [0] * 400
    dead = evidence(same, same, same, environments={"b": [0] * 3 + [-1] * 397}, max_instability=0.05)
    result, _ = answers.instability(dead)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "b gave no answer to 397 frames: it died." in result.message
    assert dead.instability.to_dict(0.95)["environments"][1] == {"name": "b", "accuracy": 1.0, "died": "it died"}
    unlimited = evidence(same, same, same, environments={"b": [-1] * 400})
    assert answers.instability(unlimited)[0].verdict is Verdict.PASSED


def drifting(frame_errors: list[float | None], **limits) -> Evidence:
    """A single regression output, of which the cloud's values span 10."""
    leg = DriftStatistics()
    leg.update(np.array([0.0, 10.0]), np.array([0.0, 10.0]))
    replay = types.SimpleNamespace(
        summary={"outputs": {"y": [-1, 1]}},
        slices=[],
        statistic=lambda leg_name, kind, item: leg,
        frames=lambda: iter([{"rmse": {"y": error}} for error in frame_errors]),
    )
    values = np.array([5.0], np.float32)
    ids = [np.array([str(i).encode()], object) for i in range(len(frame_errors))]
    predictions = [{"frame_id": name, "cloud/y": values, "edge/y": values} for name in ids]
    return Evidence(replay, ValidationSpec(**limits), read_answers(predictions, {"y": [-1, 1]}), {}, 0)


@pytest.mark.parametrize(
    ("frame_errors", "verdict"),
    [
        ([0.5] * 40, Verdict.PASSED),
        ([2.0] * 40, Verdict.FAILED),
        ([0.0, 2.2] * 20, Verdict.INCONCLUSIVE),  # nRMSE 0.156, and 0.13 or 0.17 on other frames like these
        ([0.5] * 20, Verdict.INCONCLUSIVE),
        ([0.5] * 39 + [None], Verdict.FAILED),
    ],
)
def test_drift_of_a_regression_is_judged_by_the_errors_of_frames(frame_errors, verdict):
    result, _ = answers.output_drift(drifting(frame_errors))
    assert result.verdict is verdict, result.message
    known = [error for error in frame_errors if error is not None]
    if len(known) == len(frame_errors):
        assert result.evidence["outputs_nrmse"]["y"] == pytest.approx(np.sqrt(np.mean(np.square(known))) / 10)
    if verdict is Verdict.INCONCLUSIVE:
        assert result.evidence["needed_frames"] > len(frame_errors)


@pytest.mark.parametrize(
    "text", ['{"confidence": 0.5}', '{"confidence": 1}', '{"on_inconclusive": "shrug"}', '{"max_instability": 2}']
)
def test_specs_out_of_range_are_refused(text):
    with pytest.raises(errors.SpecError, match=text.split('"')[1]):
        ValidationSpec.from_json(text)
    assert ValidationSpec.from_json('{"max_instability": null}') == ValidationSpec()
