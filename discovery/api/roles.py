"""Which role each route needs: the one table.

Owns nothing else. A route that does not stand here is refused to everybody, and a test tells.
"""

from __future__ import annotations

from collections.abc import Mapping

from discovery.tokens import Role

NOBODY, READ, REGISTER, OPERATE = Role.NOBODY, Role.READ, Role.REGISTER, Role.OPERATE

# By method and path, as the routes are declared. HEAD needs what GET needs.
ROLES: Mapping[tuple[str, str], Role] = {
    ("GET", "/healthz"): NOBODY,
    ("GET", "/readyz"): NOBODY,
    ("GET", "/openapi.json"): NOBODY,  # a browser sends no token with a page
    ("GET", "/docs"): NOBODY,
    ("GET", "/"): NOBODY,  # and its files: no secret stands in them
    ("GET", "/page/{file}"): NOBODY,
    ("GET", "/metrics"): READ,
    ("GET", "/v1/services"): READ,
    ("GET", "/v1/search"): READ,
    ("GET", "/v1/services/{service}"): READ,
    ("GET", "/v1/services/{service}/{instance}"): READ,
    ("PUT", "/v1/services/{service}/{instance}"): REGISTER,
    ("DELETE", "/v1/services/{service}/{instance}"): REGISTER,
    ("POST", "/v1/services/{service}/{instance}/heartbeat"): REGISTER,
    ("POST", "/v1/services/{service}/{instance}/drain"): REGISTER,
    ("POST", "/v1/services/{service}/{instance}/undrain"): REGISTER,
    ("POST", "/v1/leases/{lease}/drain"): REGISTER,
    ("POST", "/v1/leases/{lease}/undrain"): REGISTER,
    ("POST", "/v1/leases"): REGISTER,
    ("GET", "/v1/leases/{lease}"): READ,
    ("DELETE", "/v1/leases/{lease}"): REGISTER,
    ("POST", "/v1/leases/{lease}/heartbeat"): REGISTER,
    ("POST", "/v1/heartbeats"): REGISTER,
    ("POST", "/v1/batch"): REGISTER,  # each operation's name is looked at
    ("GET", "/v1/watch"): READ,
    ("GET", "/v1/sd/prometheus"): READ,
    ("GET", "/v2/keys{key}"): READ,
    ("PUT", "/v2/keys{key}"): REGISTER,
    ("POST", "/v2/keys{key}"): REGISTER,
    ("DELETE", "/v2/keys{key}"): REGISTER,
    ("GET", "/v1/lookup"): READ,
    ("GET", "/v1/zone"): READ,
    ("GET", "/v1/history"): READ,
    ("GET", "/v1/busiest"): READ,
    ("GET", "/v1/cluster"): READ,
    ("POST", "/v1/cluster/members"): OPERATE,
    ("DELETE", "/v1/cluster/members/{member}"): OPERATE,
    ("POST", "/v1/cluster/members/{member}/promote"): OPERATE,
    ("POST", "/v1/cluster/defrag"): OPERATE,
    ("GET", "/v1/store"): READ,
    ("POST", "/v1/store/compact"): OPERATE,
    ("POST", "/v1/store/snapshot"): OPERATE,  # it holds the tokens' hashes and the cookies' secrets
    ("POST", "/v1/config/reload"): OPERATE,
    ("GET", "/v1/tokens"): OPERATE,
    ("POST", "/v1/tokens"): OPERATE,
    ("DELETE", "/v1/tokens/{token}"): OPERATE,
}
