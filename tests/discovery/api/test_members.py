"""Members over HTTP, where the store is no cluster; on real clusters they are in tests/kv and tests/cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api import problem, running_api


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/cluster/members", {"peer": "http://10.0.0.4:2380"}),
        ("DELETE", "/v1/cluster/members/n1", None),
        ("POST", "/v1/cluster/members/n1/promote", None),
        ("POST", "/v1/cluster/defrag", None),
    ],
)
async def test_an_embedded_store_has_no_members(tmp_path: Path, method: str, path: str, body: object) -> None:
    async with running_api(tmp_path) as api:
        detail = problem(await api.call(method, path, body), 409, "conflict")
        assert detail.startswith("this node's store is no cluster (store.engine is embedded)")


async def test_a_call_that_is_wrong_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        problem(await api.call("POST", "/v1/cluster/members", {"pier": "x"}), 400, "invalid-field", "pier")
        problem(await api.call("POST", "/v1/cluster/members", {}), 400, "invalid-field", "peer")
        problem(await api.call("POST", "/v1/cluster/defrag?force=1"), 400, "invalid-field", "force")
        problem(await api.call("POST", "/v1/cluster/members/n1/promote", {"a": 1}), 400, "invalid-field", "a")
