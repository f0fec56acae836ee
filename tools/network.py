"""What this host was told about reaching package registries, for commands that run in another root.

Behind a mirror or a proxy that knowledge lies in variables and in the configuration of apt, pip and uv.
"""

import dataclasses
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

DEBIAN = "http://deb.debian.org/debian/"
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
_INDEXES = (
    "INDEX",
    "INDEX_URL",
    "EXTRA_INDEX_URL",
    "DEFAULT_INDEX",
    "TRUSTED_HOST",
    "INSECURE_HOST",
    "DEFAULT_TIMEOUT",
)


@dataclasses.dataclass(frozen=True)
class Network:
    """The knowledge in a form that any root understands.

    Attributes:
        variables: For the environment of every command.
        files: What the variables refer to: path in the root, below /run, and file of the host.
        mirror: URL of Debian's archive.
        security: URL of Debian's security archive, if the host has one.
    """

    variables: Mapping[str, str]
    files: Mapping[str, pathlib.Path]
    mirror: str
    security: str | None


def of_host() -> Network:
    """Reads the configuration of this host."""
    variables = {key: os.environ[key] for name in _PROXIES for key in (name, name.upper()) if key in os.environ}
    variables |= {
        key: os.environ[key] for tool in ("PIP", "UV") for name in _INDEXES if (key := f"{tool}_{name}") in os.environ
    }
    # uv does not read pip's configuration.
    for setting, names in (
        ("index-url", ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")),
        ("extra-index-url", ("PIP_EXTRA_INDEX_URL", "UV_INDEX")),
    ):
        # Folders of this host are not in the other root.
        urls = [url for url in _pip(setting).split() if not url.startswith("file:")]
        for name in names if urls else ():
            variables.setdefault(name, " ".join(urls))
    files = {}
    bundle = next(
        (path for path in [*map(os.environ.get, _CERTIFICATES), *_BUNDLES] if path and os.path.isfile(path)), None
    )
    if bundle:
        files["/run/host.crt"] = pathlib.Path(bundle)
        variables |= dict.fromkeys(_CERTIFICATES, "/run/host.crt")
    for config in (pathlib.Path.home() / ".config/uv/uv.toml", pathlib.Path("/etc/uv/uv.toml")):
        if config.is_file() and "UV_CONFIG_FILE" not in variables:
            files["/run/host.uv.toml"] = config
            variables["UV_CONFIG_FILE"] = "/run/host.uv.toml"
    archives = _archives()
    mirror = next((url for url in archives if "security" not in url), DEBIAN)
    return Network(variables, files, mirror, next((url for url in archives if "security" in url), None))


def _pip(setting: str) -> str:
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{setting}"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def _archives() -> list[str]:
    """URLs of the archives of Debian that apt uses here; none where the host is another Linux."""
    try:
        targets = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"],
            capture_output=True,
            text=True,
        ).stdout
    except FileNotFoundError:
        return []
    return list(dict.fromkeys(line.split()[1] for line in targets.splitlines() if line.startswith("Debian ")))
