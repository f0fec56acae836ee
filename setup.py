import pathlib

import setuptools

version: dict[str, str] = {}
exec(pathlib.Path(__file__).parent.joinpath("edge_exray/version.py").read_text("utf-8"), version)

MAPPED = ("components", "pipelines", "schemas")


def packages():
    found = [p for p in setuptools.find_packages() if p.split(".")[0] == "edge_exray"]
    for room in MAPPED:
        found += [f"edge_exray.{p}" for p in [room, *(f"{room}.{q}" for q in setuptools.find_packages(room))]]
    return found


setuptools.setup(
    name="edge-exray",
    version=version["__version__"],
    packages=packages(),
    package_dir={"edge_exray": "edge_exray", **{f"edge_exray.{room}": room for room in MAPPED}},
    package_data={"edge_exray.schemas": ["*.schema.json"], "edge_exray.reporting": ["*.j2", "*.css", "*.js"]},
    python_requires=">=3.10,<3.14",
    install_requires=["numpy", "ai-edge-litert"],
    entry_points={"console_scripts": ["exray=edge_exray.cli.main:main"]},
)
