"""What deploy/ has for containers, as other programs read it: hadolint, docker-compose, Kubernetes' own schemas.

The image's steps are done on a booted machine, and what it starts runs there as in a container: an unprivileged user
without any capability, and files that can't be written to. No image is built: that needs a registry.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from discovery.config import load
from tests.support.booted import Booted
from tests.support.deployed import DOCKER, KUBERNETES, Container, composed, manifest, manifests, pods
from tests.support.installed import OFFLINE, PLACE, PYTHON, build_wheel, equipped, put_beside
from tests.support.node import ROOT, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

BIN = Path(sys.executable).parent
DOCKERFILE = DOCKER / "Dockerfile"
IGNORED = ROOT / ".dockerignore"
TOKENS = {"discovery-tokens/tokens": "[operate x]"}


# ---------------------------------------------------------------- as others read it


def test_hadolint_finds_no_fault_in_the_dockerfile() -> None:
    done = subprocess.run([BIN / "hadolint", DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_from_all_that_a_wheel_needs_and_no_more() -> None:
    lines = [line for line in IGNORED.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert kept == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "discovery",
        "kv",
        "dns",
        "deploy/docker/discovery.yaml",
    }
    assert all((ROOT / each).exists() for each in kept)


@pytest.mark.parametrize("file", sorted(KUBERNETES.glob("*.yaml")), ids=lambda file: file.name)
def test_kubernetes_schemas_take_each_manifest(file: Path) -> None:
    if file.name == "kustomization.yaml":
        listed = yaml.safe_load(file.read_text())["resources"]
        assert sorted(listed) == sorted(each.name for each in KUBERNETES.glob("*.yaml") if each != file)
        return
    for version in ("1.28", "1.34"):
        done = subprocess.run(
            [BIN / "kubernetes-validate", "--strict", "--kubernetes-version", version, file],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (done.stdout + done.stderr).count(" passed ") == len(
            list(yaml.safe_load_all(file.read_text()))
        )


def test_docker_compose_takes_its_file_with_three_nodes() -> None:
    assert [each.name for each in composed()] == ["n1", "n2", "n3"]


# ---------------------------------------------------------------- what fits together


@pytest.mark.parametrize("made", [composed, lambda: pods(TOKENS)], ids=["compose", "kubernetes"])
def test_each_nodes_settings_are_settings(tmp_path: Path, made: object) -> None:
    containers: list[Container] = made()  # type: ignore[operator]
    file = tmp_path / "discovery.yaml"
    for container in containers:
        file.write_text(container.settings)
        config = load(file, environ=container.environment, cwd=tmp_path).config
        assert config.node.name == container.name
        assert config.store.engine == "managed-etcd"
        assert config.store.member.initial_cluster[container.name] == config.store.member.peer
        assert container.hostname in config.store.member.peer
        assert sorted(config.store.member.initial_cluster) == [each.name for each in containers]
        assert config.dns.listen == ("0.0.0.0:1053",)
        assert config.store.path == "/var/lib/discovery"


def test_the_manifests_fit_each_other() -> None:
    objects = manifests()
    assert {each["metadata"].get("namespace", "discovery") for each in objects} == {"discovery"}
    spec = manifest("StatefulSet")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    (container,) = spec["template"]["spec"]["containers"]
    ports = {each["name"]: (each["containerPort"], each["protocol"]) for each in container["ports"]}
    for service in (each for each in objects if each["kind"] == "Service"):
        assert service["spec"]["selector"] == labels
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]][1] == port.get("protocol", "TCP")
    assert ports["dns"] == (1053, "UDP")
    members = manifest("Service", spec["serviceName"])
    assert members["spec"]["clusterIP"] == "None"
    assert (
        members["spec"]["publishNotReadyAddresses"] is True
    )  # or no member would find another before all are up
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    policy = manifest("NetworkPolicy")["spec"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == set(ports)
    assert [{each["port"] for each in rule["ports"]} for rule in policy["ingress"] if "from" in rule] == [
        {"etcd", "etcd-peer"}
    ]
    # A Service named discovery would give every pod DISCOVERY_PORT and its like, which are no settings.
    assert spec["template"]["spec"]["enableServiceLinks"] is False
    assert spec["template"]["spec"]["securityContext"]["runAsUser"] == 5353


def test_the_image_and_the_manifests_mean_one_user_and_one_command() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^USER (.*)$", text, re.M)[-1] == "5353:5353"
    assert re.findall(r'^CMD \["(.*)"\]$', text, re.M) == ["serve"]
    assert f"{set(re.findall(r'^EXPOSE (.*)$', text, re.M)).pop()}" == "1053/udp 1053/tcp 8053/tcp"


# ---------------------------------------------------------------- what the image does


def steps(stage: str) -> list[tuple[str, str]]:
    """The instructions of a stage, such as ("RUN", ...)."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    body = re.findall(rf"^FROM \S+ AS {stage}\n(.*?)(?=^FROM|\Z)", text, re.M | re.S)[0]
    return re.findall(r"^([A-Z]+) +(.*)$", body, re.M)


def test_the_images_steps_and_what_it_runs(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path)
    (tmp_path / "booted").mkdir()
    with equipped(tmp_path / "booted", wheel) as machine:
        (_, build) = [step for step in steps("build") if step[0] == "RUN"][-1]
        build = build.replace("python -m venv", f"{PYTHON} -m venv").replace(
            "'/src[etcd]'", f"/srv/wheels/{wheel.name}"
        )
        assert str(wheel.name) in build
        machine.run("env", *OFFLINE, "sh", "-ec", build)
        put_beside(machine)
        made = dict(steps("node"))
        machine.run("sh", "-ec", made["RUN"])
        machine.run(
            "install", "-D", "-m", "644", f"{PLACE}/docker/discovery.yaml", "/etc/discovery/discovery.yaml"
        )
        healthy = json.loads(made["HEALTHCHECK"].partition("CMD ")[2])
        entry = [*json.loads(made["ENTRYPOINT"]), *json.loads(made["CMD"])]

        refused = contained(machine, *entry, check=False)
        assert refused.returncode == 2
        assert "http.open" in refused.stderr
        assert refused.stderr.count("\n") == 1

        for settings in (
            (),
            ("DISCOVERY_STORE__ENGINE=managed-etcd", "DISCOVERY_STORE__PATH=/var/lib/discovery/m"),
        ):
            unit = ["systemd-run", "--quiet", "--unit=container", "--collect"]
            machine.run(*unit, *words(*entry, settings=("DISCOVERY_HTTP__OPEN=true", *settings)))
            wait_for(lambda: contained(machine, *healthy, check=False).returncode == 0, 120, "it is healthy")
            put = ["discovery", "register", "web.prod", "i1", "--host", "192.0.2.1"]
            wait_for(lambda: contained(machine, *put, check=False).returncode == 0, 120, "it takes writes")  # noqa: B023
            said = machine.run(
                "dig", "@127.0.0.1", "-p", "1053", "web.prod.discovery.internal", "+short"
            ).stdout
            assert said == "192.0.2.1\n"
            journal = machine.journal("container")
            assert "Traceback" not in journal
            assert machine.run("ps", "-o", "comm=", "-U", "5353").stdout.count("etcd") == len(settings) // 2
            machine.run("systemctl", "stop", "container")


def words(*command: str, settings: tuple[str, ...] = ()) -> list[str]:
    """As `docker run --read-only --tmpfs /tmp --cap-drop ALL` with a volume runs it."""
    read_only = (
        "mount --make-rprivate / && mount --bind /var/lib/discovery /var/lib/discovery && "
        "mount -o remount,ro,bind / && "
        'mount -t tmpfs tmpfs /tmp && cd /var/lib/discovery && exec "$@"'
    )
    user = [
        "setpriv",
        "--reuid=5353",
        "--regid=5353",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]
    own = ["env", "-i", "PATH=/opt/discovery/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1", *settings]
    return ["unshare", "--mount", "sh", "-c", read_only, "sh", *user, *own, *command]


def contained(machine: Booted, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return machine.run(*words(*command), check=check)


# ---------------------------------------------------------------- the pages


@pytest.mark.parametrize("page", ["docker.md", "kubernetes.md"])
def test_every_command_of_ours_on_the_page_is_one(page: str) -> None:
    """docker and kubectl themselves are not run: there is neither a registry nor a cluster here."""
    text = (ROOT / "deploy" / page).read_text().replace("\\\n", " ")
    lines = re.findall(r"^\$ (.*)$", text, re.M)
    assert lines
    for line in lines:
        assert shlex.split(line)[0] in ("docker", "kubectl", "discovery", "curl", "dig"), line
    for file in re.findall(r"(?:-f|-k) (deploy/\S+)", text):
        assert (ROOT / file).exists(), file
