"""Debian's Prometheus and a whole node: what it finds by http_sd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import RunningNode, running_node, wait_for
from tests.support.programs import LONG
from tests.support.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RELABEL = [
    {"source_labels": ["__meta_discovery_service"], "target_label": "service"},
    {"source_labels": ["__meta_discovery_instance"], "target_label": "instance"},
    {"source_labels": ["__meta_discovery_tags"], "regex": ".*,(canary),.*", "target_label": "stage"},
    {"regex": "__meta_discovery_meta_(.+)", "action": "labelmap"},
]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "s", ["node.name=n1"]) as running:
        yield running


def finds(server: Prometheus, *wanted: str) -> None:
    """Waits until exactly these are scraped by the job."""
    wait_for(lambda: set(server.targets("found")) == set(wanted), LONG, f"targets: {wanted}")


def test_targets_appear_and_leave(tmp_path: Path, node: RunningNode) -> None:
    def register(instance: str, port: int, **body: object) -> None:
        body = {"host": "127.0.0.1", "ports": {"metrics": port}, "lease_ttl": 3600, **body}
        assert node.call("PUT", f"/v1/services/web.prod/{instance}", body)[0] == 201

    us = f"127.0.0.1:{node.http_port}"  # scraping the node itself succeeds
    job = {
        "job_name": "found",
        "scrape_interval": "1s",
        "http_sd_configs": [{"url": f"{node.url}/v1/sd/prometheus?port=metrics", "refresh_interval": "1s"}],
        "relabel_configs": RELABEL,
    }
    with prometheus(tmp_path, {"scrape_configs": [job]}) as server:
        register("i1", node.http_port, tags=["eu", "canary"], meta={"version": "1.2"})
        finds(server, us)
        labels = server.targets("found")[us]["labels"]
        expected = {
            "service": "web.prod",
            "instance": "i1",
            "stage": "canary",
            "version": "1.2",
            "job": "found",
        }
        assert labels == expected
        wait_for(
            lambda: bool(server.query('up{job="found", instance="i1"} == 1')), LONG, "it has been scraped"
        )
        register("i2", 9, host="::1")
        register("gone", 10, lease_ttl=1)
        finds(server, us, "[::1]:9")  # a lease that ends takes its target away
        assert node.call("POST", "/v1/services/web.prod/i2/drain")[0] == 200
        finds(server, us)
        assert node.call("POST", "/v1/services/web.prod/i2/undrain")[0] == 200
        assert node.call("DELETE", "/v1/services/web.prod/i1")[0] == 204
        finds(server, "[::1]:9")
