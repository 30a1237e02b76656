"""The Grafana dashboard: as Grafana's own types have it, and asking for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from discovery import metrics_reference

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "discovery.json"
SELECTED = 'job="$job",instance=~"$node"'


@pytest.fixture(scope="module")
def dashboard() -> Any:  # Any: JSON
    return json.loads(FILE.read_text())


def panels(dashboard: Any) -> Iterator[Any]:  # Any: JSON
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def missing(given: object, read: object, at: str = "") -> Iterator[str]:
    """What of `given` is not in `read`, or is something else there."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from missing(value, read.get(key), f"{at}/{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for number, (one, other) in enumerate(zip(given, read, strict=True)):
            yield from missing(one, other, f"{at}/{number}")
    elif given != read:
        yield f"{at}: {given!r} is read as {read!r}"


def test_grafana_s_own_types_read_all_of_it(dashboard: Any) -> None:
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert list(missing(dashboard, read)) == []


def test_what_grafana_s_types_do_not_know_would_be_seen(dashboard: Any) -> None:
    register_default_plugins()
    wrong = json.loads(FILE.read_text())
    wrong["panels"][1]["fieldConfig"]["defaults"]["units"] = "s"
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(wrong)))
    assert list(missing(wrong, read)) == ["/panels/1/fieldConfig/defaults/units: 's' is read as None"]


def test_source_job_and_node_are_chosen(dashboard: Any) -> None:
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "node"]
    assert (variables["node"]["multi"], variables["node"]["includeAll"]) == (True, True)
    for panel in panels(dashboard):
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        for target in panel["targets"]:
            chosen = target["expr"].count(SELECTED) or target["expr"] == 'sum(up{job="$job"})'
            assert chosen, target["expr"]
            assert target["expr"].count("{") <= max(1, target["expr"].count(SELECTED)), target["expr"]


def test_panels_lie_beside_each_other(dashboard: Any) -> None:
    taken = set[tuple[int, int]]()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + right, place["y"] + down)
            for right in range(place["w"])
            for down in range(place["h"])
        }
        assert max(right for right, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_every_metric_that_is_asked_for_is_there_and_most_are_shown(dashboard: Any) -> None:
    there = {*metrics_reference.names(), "up"}
    asked = {
        re.sub(r"_(bucket|count)$", "", name)
        for panel in panels(dashboard)
        for target in panel["targets"]
        for name in re.findall(r"\b(?:discovery_[a-z_]+|process_[a-z_]+|up)\b(?={)", target["expr"])
    }
    assert asked <= there
    assert there - asked == {
        "discovery_dns_workers_wanted",
        "discovery_store_info",
        "discovery_unreadable_total",
        "process_virtual_memory_bytes",
    }
