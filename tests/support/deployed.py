"""What deploy/ has for containers, as far as a node sees it: settings, names and ports, on hosts of a test's network.

Owns how a compose file's service and a StatefulSet's pod become a process: environment, /etc/hosts (bound for that
process alone), files in place of volumes. It starts no container.
"""

from __future__ import annotations

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.network import Host
from tests.support.node import DISCOVERY, ROOT, environment

DOCKER = ROOT / "deploy" / "docker"
KUBERNETES = ROOT / "deploy" / "kubernetes"


class Container(NamedTuple):
    """`hostname`: what stands for its own address. `settings`: the text of its configuration file."""

    name: str
    hostname: str
    environment: Mapping[str, str]
    settings: str


def manifests() -> list[dict[str, Any]]:  # Any: YAML
    """Every object of the files that kustomization.yaml names."""
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    return [each for file in listed for each in yaml.safe_load_all((KUBERNETES / file).read_text())]


def manifest(kind: str, name: str = "discovery") -> dict[str, Any]:  # Any: YAML
    (found,) = [each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pods(secrets: Mapping[str, str]) -> list[Container]:
    """Those of the StatefulSet. `secrets`: what the Secrets named there hold, as NAME/KEY."""
    spec = manifest("StatefulSet")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["args"] == ["serve"]
    made = []
    for number in range(spec["replicas"]):
        name = f"discovery-{number}"
        given: dict[str, str] = {}
        for entry in container["env"]:
            if "value" in entry:
                text = re.sub(r"\$\((\w+)\)", lambda found: given[found[1]], entry["value"])  # noqa: B023
            elif "fieldRef" in entry["valueFrom"]:
                assert entry["valueFrom"]["fieldRef"] == {"fieldPath": "metadata.name"}
                text = name
            else:
                key = entry["valueFrom"]["secretKeyRef"]
                text = secrets[f"{key['name']}/{key['key']}"]
            given[entry["name"]] = text
        full = f"{name}.{spec['serviceName']}.discovery.svc.cluster.local"
        made.append(Container(name, full, given, manifest("ConfigMap")["data"]["discovery.yaml"]))
    return made


def composed() -> list[Container]:
    """The services of the compose file, as `docker-compose config` prints it whole."""
    text = subprocess.run(
        ["docker-compose", "-f", str(DOCKER / "compose.yaml"), "config"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    settings = (DOCKER / "discovery.yaml").read_text()
    return [
        Container(name, service["hostname"], service["environment"], settings)
        for name, service in yaml.safe_load(text)["services"].items()
    ]


class Deployed:
    """A container's node on a host, with `names` (host name to address) and its files below `folder`."""

    def __init__(
        self, container: Container, host: Host, names: Mapping[str, str], folder: Path, certs: Path | None
    ) -> None:
        self.name = container.name
        self.hostname = container.hostname
        self.host = host
        self.folder = folder / container.name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.store = self.folder / "lib"
        self._certs = certs
        self._hosts = self.folder / "hosts"
        self.knows(names)
        (self.folder / "discovery.yaml").write_text(self._here(container.settings))
        self._environment = {key: self._here(text) for key, text in container.environment.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def _here(self, text: str) -> str:
        if self._certs is not None:
            text = text.replace("/etc/discovery/certs", str(self._certs))
        return text.replace("/var/lib/discovery", str(self.store))

    def knows(self, names: Mapping[str, str]) -> None:
        """What each name stands for from now on, in the process that runs too: the file stays the same one."""
        lines = [f"{address} {name}\n" for name, address in names.items()]
        self._hosts.write_text("127.0.0.1 localhost\n" + "".join(lines))

    def configure(self, change: Mapping[str, str]) -> None:
        """Puts texts of its configuration file in the place of others."""
        file = self.folder / "discovery.yaml"
        text = file.read_text()
        for old, new in change.items():
            assert old in text, old
            text = text.replace(old, self._here(new))
        file.write_text(text)

    def start(self) -> None:
        command = self.within(*DISCOVERY, "serve", "--config", str(self.folder / "discovery.yaml"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, env=environment() | self._environment
            )

    def within(self, *command: str) -> Sequence[str]:
        bound = f'mount --bind {self._hosts} /etc/hosts && exec "$@"'
        return [*self.host.enter, "unshare", "--mount", "sh", "-c", bound, "sh", *command]

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def leave(self) -> None:
        """Tells it to end; `stop` waits for that."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def status(self, path: str) -> int:
        """Of a GET to its API, as a probe of the kubelet's; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.host.address}:8053{path}", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of ours inside the container."""
        return subprocess.run(
            self.within(*DISCOVERY, *arguments),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
