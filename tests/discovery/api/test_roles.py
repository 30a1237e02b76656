"""The table of roles holds every route, and no other."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from discovery.api.app import make_app
from discovery.api.roles import ROLES
from tests.support.api import running_api


def routes_of(app: web.Application) -> set[tuple[str, str]]:
    return {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


async def test_every_route_has_its_role_and_every_role_its_route(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert routes_of(make_app(api.parts)) == set(ROLES)
