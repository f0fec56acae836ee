"""Builds the images of the Dockerfile in folders of Debian 13 and runs there what no other machine of today runs.

`make newest-stack-test`, or `python tools/newest_stack.py [--folder DIR] [PYTEST OPTION ...]`: the demo in the image
`full`, a gate in the image `runtime`, the tests in the image `test`. It needs root and debootstrap, but no container
engine.
"""

import argparse
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

import image as images
import network as networks

ROOT = pathlib.Path(__file__).parent.parent
NAME, SUITE = "debian:13-slim", "trixie"
SPACE = 20e9
_SMALLEST_SHOWN, _LONGEST = 1e5, 110
# What the slim images of Debian leave out, and how they keep apt from keeping what it downloaded.
SLIM = ("doc", "groff", "info", "linda", "lintian", "locale", "man")
APT = """
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
# Frames of the demo as an array, so that the gate needs nothing but arrays.
FRAMES = """
import numpy as np
from edge_exray.pipelines import tiles
chosen = tiles.make_tiles("eval")
image = np.stack([tile.pixels for tile in chosen]).astype(np.float32) / 127.5 - 1
label = np.array([tiles.CLASSES.index(tile.class_name) for tile in chosen])
np.savez("frames.npz", image=image, label=label)
"""


class UnfitError(Exception):
    """This machine cannot do it; says what would help."""


class Run:
    """One run in a folder.

    Args:
        folder: Of the layers, which the next run uses again, and of the containers.
    """

    def __init__(self, folder: pathlib.Path):
        self._started = time.monotonic()
        self._network = networks.of_host()
        self._store = images.Store(folder, self._network)

    def say(self, text: str) -> None:
        """Prints a line behind the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        print(f"[{minutes:2}:{seconds:02}] {text}", flush=True)

    def debian(self, name: str, folder: pathlib.Path) -> None:
        """Makes the base image: a minimal Debian 13 in a folder.

        Raises:
            BuildError: Another base is asked for, or debootstrap failed.
        """
        if name != NAME:
            raise images.BuildError(f"the Dockerfile starts from {name}, here only {NAME} can be made")
        self.say(f"debootstrap: {name} from {self._network.mirror} (a minute)")
        log = folder.parent / "log"
        command = ["debootstrap", "--variant=minbase", SUITE, str(folder), self._network.mirror]
        with log.open("wb") as output:
            status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode
        if status:
            raise images.BuildError(f"{' '.join(command)} failed (status {status}); its log: {log}")
        sources = [f"deb {self._network.mirror} {suite} main" for suite in (SUITE, f"{SUITE}-updates")]
        if self._network.security:
            sources.append(f"deb {self._network.security} {SUITE}-security main")
        (folder / "etc/apt/sources.list").write_text("\n".join([*sources, ""]), "utf-8")
        excluded = [f"path-exclude /usr/share/{part}/*" for part in SLIM]
        (folder / "etc/dpkg/dpkg.cfg.d/slim").write_text("\n".join([*excluded, ""]), "utf-8")
        (folder / "etc/apt/apt.conf.d/docker-clean").write_text(APT, "utf-8")
        for part in SLIM:
            shutil.rmtree(folder / "usr/share" / part, ignore_errors=True)
        for kept in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(folder / kept)
            (folder / kept).mkdir()

    def build(self, *targets: str) -> list[images.Image]:
        """Builds images and prints their layers."""
        builder = images.Builder(ROOT, self._store, self.debian, self.say)
        built = [builder.build(target) for target in targets]
        for target, image in zip(targets, built, strict=True):
            print(f"Image {target}: {sum(layer.size for layer in image.layers) / 1e6:,.0f} MB on disk")
            for layer in image.layers:
                if layer.size >= _SMALLEST_SHOWN:
                    print(f"{layer.size / 1e6:8,.0f} MB  {_short(layer.step)}")
        return built

    def container(
        self, image: images.Image, name: str, *commands: Sequence[str], data: pathlib.Path | None = None
    ) -> int:
        """Runs commands one after the other in a new container, and returns the first status that is not 0.

        Args:
            image: What the container starts from.
            name: Names the folder in which what it wrote stays.
            *commands: Commands with their arguments.
            data: Folder of the host that they find, read-only, as `/data`.
        """
        self._store.begin(name)
        binds = {"/data": data} if data else {}
        for command in commands:
            self.say(f"{name}: {_short(' '.join(command))}")
            status = self._store.run(image, name, [*image.entrypoint, *command], binds=binds)
            self.say(f"{name}: status {status}")
            if status:
                return status
        return 0

    def written(self, name: str, path: str) -> pathlib.Path:
        """Where a file that a container wrote lies on the host."""
        return self._store.folder / name / "diff" / path.lstrip("/")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def check() -> None:
    """Raises UnfitError where this machine lacks something."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnfitError("TFX has wheels for Linux x86_64 only: run this there")
    if os.geteuid() != 0:
        raise UnfitError("mounts and chroot need root: run it as root, for example with sudo")
    missing = [tool for tool in ("debootstrap", "unshare", "chroot", "mount") if shutil.which(tool) is None]
    if missing:
        raise UnfitError(
            f"{', '.join(missing)} not on the PATH: apt-get install debootstrap; the rest lies in /usr/sbin"
        )
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode:
        raise UnfitError("this root may not mount: in a container, start that with --privileged")


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, runs demo, gate and tests, and returns the exit status: 0 when all of them passed."""
    parser = argparse.ArgumentParser(
        description="Run demo and tests in the images of the Dockerfile, without an engine."
    )
    parser.add_argument(
        "--folder", type=pathlib.Path, default=ROOT / "build/newest-stack", help="of everything that it makes"
    )
    options, pytest_options = parser.parse_known_args(argv)
    try:
        check()
        folder = options.folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < SPACE and not any(folder.iterdir()):
            raise UnfitError(
                f"{folder} has {free / 1e9:.0f} GB free of {SPACE / 1e9:.0f} GB: take another with --folder"
            )
        run = Run(folder)
        run.say(f"Writing to {folder}; the libraries take some minutes, the tests ten or more")
        full, runtime, test = run.build("full", "runtime", "test")
    except (UnfitError, images.BuildError) as e:
        print(f"newest-stack: {e}", file=sys.stderr)
        return 1
    home = run.written("demo", "/home/exray")
    cloud = "demo-run/pipeline/Trainer/model/2/Format-Serving"
    edge = "demo-run/pipeline/EdgeConverter/edge_model/3/Format-Serving/tflite"
    statuses = {
        "demo": run.container(full, "demo", ["python", "-m", "edge_exray.pipelines.demo"], ["python", "-c", FRAMES]),
        "gate": run.container(
            runtime,
            "gate",
            ["exray", "lint", f"/data/{edge}"],
            ["exray", "profile", f"/data/{edge}", "--out", "profile"],
            [
                "exray",
                "validate",
                f"/data/{cloud}",
                f"/data/{edge}",
                "--examples",
                "/data/frames.npz",
                "--out",
                "report",
            ],
            data=home,
        ),
        "tests": run.container(test, "tests", ["python", "-m", "pytest", *pytest_options]),
    }
    run.say(", ".join(f"{name} {'passed' if status == 0 else 'FAILED'}" for name, status in statuses.items()))
    return 1 if any(statuses.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
