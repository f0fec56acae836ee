"""Container images as folders: what a Dockerfile builds, without a container engine.

The steps of the Dockerfile run in private mounts of overlayfs, so that every step leaves a folder with what it added: a
layer, as an engine makes it. Layers are kept by what they were made from and serve the next build.
"""

import collections
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import string
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import docker.utils
import dockerfile
import network

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BuildError(Exception):
    """A step failed, or is one that is not understood here."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one step added.

    Attributes:
        digest: Of everything that it was made from; names its folder in the store.
        step: The step as the Dockerfile has it.
        size: Disk space of what it added, in bytes.
    """

    digest: str
    step: str
    size: int


@dataclasses.dataclass(frozen=True)
class Image:
    """An image, or a stage that is being built.

    Attributes:
        layers: From the base up.
        digest: Of all steps up to here, also of those that added no layer.
        env: Variables of ENV and ARG.
        workdir: Where commands run.
        user: Who runs them.
        entrypoint: Stands before every command of a container.
    """

    layers: tuple[Layer, ...]
    digest: str
    env: Mapping[str, str]
    workdir: str = "/"
    user: str = "0"
    entrypoint: tuple[str, ...] = ()


class Store:
    """A folder of layers.

    Args:
        folder: Where they lie.
        network: What the host knows of the network, for the commands of every step.
    """

    def __init__(self, folder: pathlib.Path, network: network.Network):
        self.folder = folder
        self._network = network
        (folder / "mnt").mkdir(parents=True, exist_ok=True)

    def layer(self, digest: str) -> Layer | None:
        """Returns the finished layer of this digest, if there is one."""
        record = self.folder / digest / "layer.json"
        return Layer(**json.loads(record.read_text("utf-8"))) if record.is_file() else None

    def begin(self, digest: str) -> pathlib.Path:
        """Returns the empty folder that a new layer is to fill."""
        shutil.rmtree(self.folder / digest, ignore_errors=True)
        for part in ("diff", "work"):
            (self.folder / digest / part).mkdir(parents=True)
        return self.folder / digest / "diff"

    def finish(self, digest: str, step: str) -> Layer:
        """Keeps a layer that is complete."""
        usage = subprocess.run(
            ["du", "-sxk", self.folder / digest / "diff"], check=True, capture_output=True, text=True
        )
        layer = Layer(digest, step, 1024 * int(usage.stdout.split()[0]))
        (self.folder / digest / "layer.json").write_text(json.dumps(dataclasses.asdict(layer)), "utf-8")
        return layer

    def enter(
        self,
        image: Image,
        upper: str,
        command: str,
        *,
        binds: Mapping[str, tuple[Image, str] | pathlib.Path] | None = None,
        **options: Any,
    ) -> int:
        """Runs a shell command on top of an image, where `mnt` is the image's root; what it writes goes to `upper`.

        Args:
            image: What lies below.
            upper: Digest of a layer that was begun.
            command: The command; it runs outside the root, as root, in the store's folder.
            binds: What to mount read-only, by its path in the image: a path of another image, or one of the host.
            **options: Of `subprocess.run`.

        Returns:
            The exit status.
        """
        root = "mnt"
        lower = ":".join(f"{layer.digest}/diff" for layer in reversed(image.layers))
        lines = [
            "set -e",
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={upper}/diff,workdir={upper}/work {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount --rbind /sys {root}/sys",
            f"mount --bind /etc/resolv.conf {root}/etc/resolv.conf",
            f"mount -t tmpfs tmpfs {root}/run",
            *(f"cp {shlex.quote(str(file))} {root}{path}" for path, file in self._network.files.items()),
        ]
        for number, (target, source) in enumerate((binds or {}).items()):
            if isinstance(source, tuple):
                other, path = source
                below = ":".join(f"{layer.digest}/diff" for layer in reversed(other.layers))
                place = f"{root}/run/{number}"
                lines += [f"mkdir {place}", f"mount -t overlay overlay -o ro,lowerdir={below} {place}"]
                shown = f"{place}{path}"
            else:
                shown = shlex.quote(str(source))
            lines += [f"mkdir -p {root}{target}", f"mount --bind -o ro {shown} {root}{target}"]
        # The kernel takes all mounts and all processes away with the namespaces, however this ends.
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        script = "\n".join([*lines, command])
        status = subprocess.run([*namespaces, "/bin/sh", "-c", script], cwd=self.folder, **options).returncode
        for target in binds or {}:
            stub = self.folder / upper / "diff" / target.lstrip("/")
            if stub.is_dir():
                stub.rmdir()
        return status

    def run(self, image: Image, upper: str, command: Sequence[str], **options: Any) -> int:
        """Runs a command inside an image, as its user, with its variables and those of the network."""
        passwd = next(
            path
            for layer in reversed(image.layers)
            if (path := self.folder / layer.digest / "diff/etc/passwd").is_file()
        )
        users = [line.split(":") for line in passwd.read_text("utf-8").splitlines()]
        home = next((entry[5] for entry in users if image.user in (entry[0], entry[2])), "/")
        variables = {"PATH": PATH, "HOME": home, **self._network.variables, **image.env}
        inside = ["env", "-i", f"--chdir={image.workdir}", *(f"{key}={value}" for key, value in variables.items())]
        chroot = ["exec", "chroot", f"--userspec={image.user}", "mnt", *inside, *command]
        return self.enter(image, upper, shlex.join(chroot), stdin=subprocess.DEVNULL, **options)


class Builder:
    """Builds the stages of a Dockerfile.

    Args:
        context: The folder with the Dockerfile and .dockerignore.
        store: Where the layers go.
        base: Makes an image that the Dockerfile takes from a registry, of its name, in a folder.
        say: Told what is done.
    """

    def __init__(
        self,
        context: pathlib.Path,
        store: Store,
        base: Callable[[str, pathlib.Path], None],
        say: Callable[[str], None],
    ):
        self._store, self._base, self._say = store, base, say
        self._context = store.folder / "context"
        self._images: dict[str, Image] = {}
        self._stages: dict[str, list[dockerfile.Command]] = {}
        for command in dockerfile.parse_file(str(context / "Dockerfile")):
            if command.cmd == "FROM":
                stage = self._stages.setdefault(command.value[-1], [])
            stage.append(command)
        self._copy_context(context)

    def build(self, target: str) -> Image:
        """Builds a stage and those that it needs.

        Raises:
            BuildError: A step failed, or is one that is not understood here.
        """
        if target not in self._images:
            if target not in self._stages:
                raise BuildError(f"the Dockerfile has no stage {target}, only {', '.join(self._stages)}")
            first, *steps = self._stages[target]
            image = self._parent(first.value[0])
            # What a stage declares with ARG ends with it; a stage on top inherits only ENV.
            arguments = set()
            for step in steps:
                if step.cmd == "ARG":
                    arguments.add(step.value[0].partition("=")[0])
                image = self._step(image, step, target)
            env = {key: value for key, value in image.env.items() if key not in arguments}
            self._images[target] = dataclasses.replace(image, env=env)
        return self._images[target]

    def _parent(self, name: str) -> Image:
        if name in self._stages:
            return self.build(name)
        digest = _digest("FROM", name)
        layer = self._store.layer(digest)
        if layer is None:
            self._base(name, self._store.begin(digest))
            layer = self._store.finish(digest, f"FROM {name}")
        return Image((layer,), digest, {})

    def _step(self, image: Image, step: dockerfile.Command, stage: str) -> Image:
        if step.heredocs:
            raise BuildError(f"Dockerfile:{step.start_line}: here-documents are not understood here")
        image = dataclasses.replace(image, digest=_digest(image.digest, step.original))
        match step.cmd:
            case "ENV":
                pairs = zip(step.value[::2], step.value[1::2], strict=True)
                return dataclasses.replace(image, env={**image.env, **{k: _expand(v, image.env) for k, v in pairs}})
            case "ARG":
                key, _, value = step.value[0].partition("=")
                return dataclasses.replace(image, env={**image.env, key: _expand(value, image.env)})
            case "USER":
                return dataclasses.replace(image, user=step.value[0])
            case "ENTRYPOINT" if step.json:
                return dataclasses.replace(image, entrypoint=step.value)
            case "CMD":
                return image
            case "WORKDIR":
                made = self._layer(image, step, stage, [], f"mkdir -p mnt{shlex.quote(step.value[0])}")
                return dataclasses.replace(made, workdir=step.value[0])
            case "RUN" if not step.json:
                return self._layer(image, step, stage, [_options(flag) for flag in step.flags], None)
            case "COPY":
                return self._copy(image, step, stage)
        raise BuildError(f"Dockerfile:{step.start_line}: {step.cmd} of this form is not understood here")

    def _copy(self, image: Image, step: dockerfile.Command, stage: str) -> Image:
        *sources, target = step.value
        target = os.path.join("mnt", os.path.join(image.workdir, target).lstrip("/"))
        flags = collections.ChainMap(*(_options(flag) for flag in step.flags))
        if set(flags) - {"from"}:
            raise BuildError(f"Dockerfile:{step.start_line}: of COPY's options only --from is understood here")
        lines = []
        for source in sources:
            path = f"mnt/run/copied/{source.lstrip('/')}"
            # A folder's content is copied, not the folder.
            lines.append(
                f"if [ -d {path} ]; then mkdir -p {target} && cp -aT --no-preserve=ownership {path} {target}; else "
                f"mkdir -p {target if target.endswith('/') else os.path.dirname(target)} && "
                f"cp -a --no-preserve=ownership {path} {target}; fi"
            )
        mount = {"from": flags.get("from", ""), "source": "/", "target": "/run/copied"}
        return self._layer(image, step, stage, [mount], "\n".join(lines), sources)

    def _layer(
        self,
        image: Image,
        step: dockerfile.Command,
        stage: str,
        mounts: Sequence[Mapping[str, str]],
        command: str | None,
        sources: Sequence[str] = (),
    ) -> Image:
        binds: dict[str, tuple[Image, str] | pathlib.Path] = {}
        inputs = [image.digest]
        for mount in mounts:
            if mount.get("from"):
                other = self.build(mount["from"])
                inputs.append(other.digest)
                binds[mount["target"]] = (other, mount["source"])
            else:
                binds[mount["target"]] = self._context / mount["source"].lstrip("/")
                inputs += [self._content(source) for source in sources or [mount["source"]]]
        digest = _digest(*inputs)
        layer = self._store.layer(digest)
        title = " ".join(step.original.split())
        if layer is None:
            self._say(f"{stage}: {title}")
            started = time.monotonic()
            self._store.begin(digest)
            log = self._store.folder / digest / "log"
            with log.open("wb") as output:
                options = {"stdout": output, "stderr": subprocess.STDOUT}
                if command is None:
                    shell = ["/bin/sh", "-c", step.value[0]]
                    # The mounts of a RUN step stand beside the command, inside the root.
                    status = self._store.run(image, digest, shell, binds=binds, **options)
                else:
                    status = self._store.enter(image, digest, command, binds=binds, **options)
            if status:
                tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:])
                raise BuildError(f"{tail}\nDockerfile:{step.start_line}: status {status}; the whole log: {log}")
            layer = self._store.finish(digest, title)
            self._say(f"{stage}: {time.monotonic() - started:.0f} s, {layer.size / 1e6:,.0f} MB")
        return dataclasses.replace(image, layers=(*image.layers, layer), digest=digest)

    def _copy_context(self, context: pathlib.Path) -> None:
        shutil.rmtree(self._context, ignore_errors=True)
        patterns = [line for line in (context / ".dockerignore").read_text("utf-8").splitlines() if line[:1] != "#"]
        for name in sorted(docker.utils.exclude_paths(str(context), [p for p in patterns if p])):
            source, target = context / name, self._context / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(exist_ok=True)
            else:
                shutil.copy2(source, target, follow_symlinks=False)

    def _content(self, source: str) -> str:
        """Digest of a file of the context, or of all files of a folder."""
        path = self._context / source.lstrip("/")
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return _digest(*(f"{p.relative_to(self._context)} {_digest(p.read_bytes().hex())}" for p in files))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _options(flag: str) -> dict[str, str]:
    """`--mount=type=bind,from=a` and `--from=a` as a dictionary."""
    name, _, value = flag.removeprefix("--").partition("=")
    return dict(pair.split("=", 1) for pair in value.split(",")) if name == "mount" else {name: value}


def _expand(value: str, env: Mapping[str, str]) -> str:
    """Takes quotes away and resolves $NAME."""
    return string.Template("".join(shlex.split(value))).safe_substitute({"PATH": PATH, **env})
