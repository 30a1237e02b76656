"""etcd over TLS: its certificate, ours, and what is told where one is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

from discovery.errors import StoreError
from discovery.kv.contract import Unavailable
from discovery.kv.etcd_endpoints import Access
from tests.support.etcd import EtcdCluster, etcd_cluster
from tests.support.etcd_store import opened

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


class Certificates:
    """Of one authority: PEM files for a server on 127.0.0.1 and for a client."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("node")
        self.files = {}
        for name, issued in (("server", server), ("client", client)):
            self.files[name] = (directory / f"{name}.pem", directory / f"{name}.key")
            issued.cert_chain_pems[0].write_to_path(self.files[name][0])
            issued.private_key_pem.write_to_path(self.files[name][1])

    def server_flags(self, *, mutual: bool) -> Sequence[str]:
        cert, key = map(str, self.files["server"])
        flags = ["--cert-file", cert, "--key-file", key]
        return [*flags, "--client-cert-auth", "--trusted-ca-file", str(self.ca)] if mutual else flags

    def access(self, cluster: EtcdCluster, *, client: bool = False, ca: Path | None = None) -> Access:
        cert, key = map(str, self.files["client"]) if client else ("", "")
        return Access(cluster.endpoints, ca=str(ca or self.ca), cert=cert, key=key)


class TestTls:
    @pytest.mark.parametrize("mutual", [False, True])
    async def test_all_goes_over_tls(self, tmp_path: Path, mutual: bool) -> None:
        made = Certificates(tmp_path / "pki")
        flags = made.server_flags(mutual=mutual)
        with etcd_cluster(tmp_path / "tls", flags=flags, scheme="https") as cluster:
            async with opened(made.access(cluster, client=mutual)) as store:
                revision = await store.put(b"/a", b"1")
                async with store.watch(b"/a", from_revision=revision) as batches:
                    assert (await anext(batches)).events[0].kv.value == b"1"
                lease = await store.lease_grant(30)
                assert await store.lease_keepalive(lease.id) == 30

    async def test_another_authority_s_certificate_is_told(self, tmp_path: Path) -> None:
        made, other = Certificates(tmp_path / "pki"), Certificates(tmp_path / "other")
        flags = made.server_flags(mutual=False)
        with etcd_cluster(tmp_path / "tls", flags=flags, scheme="https") as cluster:
            async with opened(made.access(cluster, ca=other.ca)) as store:
                with pytest.raises(StoreError, match=r"(?i)certificate.*store\.etcd\.ca") as refused:
                    await store.put(b"/a", b"1")
                assert "\n" not in refused.value.detail

    async def test_no_certificate_where_one_is_asked_for_is_an_error(self, tmp_path: Path) -> None:
        made = Certificates(tmp_path / "pki")
        flags = made.server_flags(mutual=True)
        with etcd_cluster(tmp_path / "tls", flags=flags, scheme="https") as cluster:
            async with opened(made.access(cluster)) as store:
                with pytest.raises(Unavailable):
                    await store.put(b"/a", b"1")
