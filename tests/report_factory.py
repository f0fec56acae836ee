"""Makes reports of any size, to be rendered in tests."""

from typing import Any

from edge_exray.diagnosis.report import CheckResult, Report, Suspect, Verdict


def drift(nrmse: float | None) -> dict[str, Any]:
    return {
        "frames": 8,
        "nrmse": nrmse,
        "rmse": nrmse,
        "max_abs": nrmse,
        "mean_bias": nrmse,
        "sqnr_db": None if not nrmse else 20.0,
        "cosine": nrmse,
        "reference_range": [-1.0, 1.0],
        "edge_range": [None, None] if nrmse is None else [-1.0, 1.0],
        "reference_rms": 0.5,
        "edge_rms": nrmse,
        "reference_nonfinite": 0,
        "edge_nonfinite": 0 if nrmse is not None else 3,
        "saturated_share": nrmse,
        "clipped_share": nrmse,
        "reference_dead_share": 0.0,
        "edge_dead_share": 0.0,
        "frame_nrmse": {"p50": nrmse, "p90": nrmse, "p99": nrmse},
    }


def layer(index: int, *, name: str | None = None, nrmse: float | None = 0.01) -> dict[str, Any]:
    return {
        "index": index,
        "op": "CONV_2D",
        "name": name or f"net/block_{index}/Relu6;net/block_{index}/FusedBatchNormV3;net/block_{index}/Conv2D",
        "cloud_tensor": f"net/block_{index}/Relu6:0",
        "status": "verified",
        "evidence": "structure",
        "confidence": 0.97,
        "shape": [1, 32, 32, 16],
        "dtype": "int8",
        "quantization": {"scale": [0.0235], "zero_point": [-128]},
        "own_error": {"nrmse": nrmse, "rmse": nrmse, "ratio": 1.5, "inherited_nrmse": nrmse},
        "legs": {"conversion": drift(0.0), "quantization": drift(nrmse), "preprocessing": drift(nrmse)},
    }


def kernels(verdict: str = "passed", layers: int = 3) -> dict[str, Any]:
    op = {"op": "CONV_2D", "kernel": "xnnpack", "ms": 0.5, "raw_ms": 0.6, "share": 1 / layers}
    model = {
        "bytes": 120_000,
        "kernels": "xnnpack",
        "num_threads": 1,
        "profiler": "hook",
        "latency_ms": {"p50": 1.25, "p90": 1.5, "p99": 2.0, "mean": 1.3, "runs": 50},
        "init_ms": 3.0,
        "memory_bytes": 5_000_000,
        "ops": [{**op, "index": i, "name": f"kernel_{i}"} for i in range(layers)],
    }
    check = {
        "name": "p50_latency",
        "verdict": verdict,
        "message": "The median is 1.25 ms.",
        "evidence": {"p50_ms": 1.25},
    }
    return {
        "format_version": 1,
        "verdict": verdict,
        "summary": "The budgets were looked at.",
        "checks": [check],
        "models": [{**model, "role": role, "path": f"{role}.tflite"} for role in ("edge", "float_edge")],
        "environment": {"cpus": 2},
    }


def worst_frame(frame_id: str, drift: float | None = 0.5, label: int | None = 1) -> dict[str, Any]:
    sides = {
        "cloud": [{"index": 1, "value": 0.75}, {"index": 0, "value": 0.25}],
        "edge": [{"index": 0, "value": 1.0}, {"index": 1, "value": None}],
    }
    pictures = {"image": {"reference": "data:image/png;base64,AAAA", "app": "data:image/png;base64,BBBB"}}
    names = {"id": frame_id, "place": "data.gz#7", "label": label, "drift": drift}
    return {**names, "answers": {"probs": sides}, "pictures": pictures}


def lint(layer: int = 0, name: str = "net/bias") -> dict[str, Any]:
    finding = {
        "rule": "saturated_bias",
        "severity": "error",
        "op": layer,
        "op_name": "CONV_2D",
        "tensor": name,
        "value": "3 of 8 values at the limit",
        "why": "it did not fit",
        "fix": "calibrate again",
        "subgraph": 0,
    }
    model = {**finding, "rule": "missing_signature", "severity": "warning", "op": None, "op_name": "", "tensor": ""}
    body = {**finding, "rule": "custom_op", "subgraph": 2}
    return {"counts": {"error": 2, "warning": 1, "note": 0}, "findings": [finding, body, model]}


def attribution(layer: int = 0) -> dict[str, Any]:
    suspect = {
        "layer": layer,
        "op": "CONV_2D",
        "name": f"net/block_{layer}",
        "cloud_tensor": None,
        "own_nrmse": 0.02,
        "own_ratio": 9.0,
        "inherited_nrmse": 0.01,
        "quantization": None,
        "lint": [],
    }
    legs = [
        {"leg": "quantization", "share": 0.75, "nrmse": 0.2},
        {"leg": "conversion", "share": 0.25, "nrmse": 0.1},
        {"leg": "kernel", "share": 0.0, "nrmse": None},
    ]
    sentence = "Quantization makes 75 % of the error, conversion 25 %."
    return {
        "sentence": sentence,
        "output": "probs",
        "nrmse": 0.25,
        "legs": legs,
        "blame": "quantization",
        "suspect": suspect,
    }


def instability(share: float | None = 0.25) -> dict[str, Any]:
    return {
        "environments": [
            {"name": "xnnpack", "accuracy": 0.875, "died": None},
            {"name": "jpeg 60", "accuracy": 0.625, "died": "it aborted"},
        ],
        "instability": share,
        "interval": None if share is None else [0.1, 0.5],
        "disagreement": 0.375,
        "frames": 8,
        "unstable": [{"id": "cat/1.png", "label": 0, "answers": {"xnnpack": 0, "jpeg 60": 1}}],
    }


def report(verdict: Verdict = Verdict.FAILED, layers: list[dict[str, Any]] | None = None, **fields: Any) -> Report:
    layers = [layer(i) for i in range(3)] if layers is None else layers
    first = layers[0] if layers else layer(0)
    defaults: dict[str, Any] = {
        "summary": "The app feeds BGR; the edge model must not ship.",
        "checks": [
            CheckResult("preprocessing", verdict, "Channels of 'image' are reversed.", {"permutation": [2, 1, 0]}),
            CheckResult("label_flip_rate", Verdict.INCONCLUSIVE, "8 frames are too few.", {"label_flip_rate": 0.125}),
            CheckResult("alignment_coverage", Verdict.PASSED, "All ops are paired.", {}),
        ],
        "suspects": [
            Suspect(first["index"], first["op"], first["name"], None, "quantization", "It jumps.", "preprocessing")
        ],
        "models": {
            "cloud": {"path": "run/saved_model", "fingerprint": "c10d", "bytes": 900_000, "signature": "serving_dense"},
            "edge": {"path": "run/edge.tflite", "fingerprint": "ed9e", "bytes": 120_000},
        },
        "frames": {"count": 8, "labelled": 8, "layer_frames": 4},
        "accuracy": {"output": "probs", "cloud": 0.875, "edge": 0.25, "label_flip_rate": 0.625},
        "alignment": {
            "verified": 3,
            "unverified": 0,
            "internal": 0,
            "unmatched": 0,
            "ops": 3,
            "coverage": 1.0,
            "evidence": {"structure": 3},
        },
        "layers": layers,
        "legs": {
            "conversion": {"ran": True, "note": "Cloud against float edge.", "outputs": {"probs": drift(0.0)}},
            "kernel": {"ran": False, "note": "One set of kernels only.", "outputs": {}},
        },
        "preprocessing": {
            "image": {
                "identical": False,
                "hypothesis": "Channels reversed",
                "code": "x[..., [2, 1, 0]]",
                "residual": 1e-7,
                "permutation": [2, 1, 0],
                "reference_range": [-1.0, 1.0],
                "edge_range": [-1.0, None],
            }
        },
        "lint": lint(),
        "environment": {"numpy": "1.26.4", "tfx": None, "cpus": 2},
        "worst_frames": [worst_frame("cat/1.png"), worst_frame("dog/2.png", drift=None, label=None)],
    }
    return Report(verdict=verdict, **{**defaults, **fields})
