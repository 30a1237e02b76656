"""python-etcd, a client of etcd's v2 API that we did not write, against /v2/keys of a running node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import etcd
import pytest

from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WEB = "/skydns/internal/discovery/web"
NAME = "web.discovery.internal."


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with running_node(tmp_path_factory.mktemp("node") / "store") as running:
        yield running


@pytest.fixture
def client(node: RunningNode) -> Iterator[etcd.Client]:
    """With no keys stored."""
    client = etcd.Client(host="127.0.0.1", port=node.http_port, read_timeout=20)
    yield client
    for key in client.read("/skydns").leaves:
        if key.key != "/skydns":
            client.delete(key.key, recursive=True)


@pytest.fixture
def aside() -> Iterator[Callable[[Callable[[], etcd.EtcdResult]], Future[etcd.EtcdResult]]]:
    """Runs a call that waits in a thread of its own; the call has begun when this returns."""
    with ThreadPoolExecutor(4) as pool:

        def run(call: Callable[[], etcd.EtcdResult]) -> Future[etcd.EtcdResult]:
            begun = threading.Event()

            def work() -> etcd.EtcdResult:
                begun.set()
                return call()

            future = pool.submit(work)
            assert begun.wait(5)
            return future

        yield run


def test_set_and_get(node: RunningNode, client: etcd.Client) -> None:
    made = client.set(f"{WEB}/1", '{"host":"10.0.0.1"}')
    assert (made.action, made.newKey, made.ttl) == ("set", True, None)
    read = client.get(f"{WEB}/1")
    assert (read.key, read.value, read.dir) == (f"{WEB}/1", '{"host":"10.0.0.1"}', False)
    assert read.etcd_index >= read.modifiedIndex == made.modifiedIndex
    assert node.answers(NAME, "A") == ["10.0.0.1"]
    assert f"{WEB}/1" in client
    assert f"{WEB}/2" not in client
    again = client.set(f"{WEB}/1", '{"host":"10.0.0.2"}')
    assert (again.newKey, again._prev_node.value) == (False, '{"host":"10.0.0.1"}')
    assert client.read(f"{WEB}/1", quorum=True).value == '{"host":"10.0.0.2"}'


def test_ttl(node: RunningNode, client: etcd.Client) -> None:
    made = client.write(f"{WEB}/1", '{"host":"10.0.0.1"}', ttl=2)
    assert (made.ttl, made.expiration is not None) == (2, True)
    assert 1 <= client.get(f"{WEB}/1").ttl <= 2
    assert node.answers(NAME, "A") == ["10.0.0.1"]
    expired = client.watch(f"{WEB}/1", index=made.modifiedIndex + 1)
    assert (expired.action, expired.key, expired.value) == ("expire", f"{WEB}/1", None)
    wait_for(lambda: node.answers(NAME, "A") == [], 30, "gone with its ttl")
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.get(f"{WEB}/1")


def test_refresh(client: etcd.Client) -> None:
    client.write(f"{WEB}/1", "a", ttl=60)
    refreshed = client.refresh(f"{WEB}/1", ttl=90)
    assert (refreshed.action, refreshed.value, refreshed.ttl) == ("update", "a", 90)
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.refresh(f"{WEB}/2", ttl=90)


def test_wait(
    client: etcd.Client, aside: Callable[[Callable[[], etcd.EtcdResult]], Future[etcd.EtcdResult]]
) -> None:
    index = client.set(f"{WEB}/1", "a").modifiedIndex
    one = aside(lambda: client.watch(f"{WEB}/1", index=index + 1))
    tree = aside(lambda: client.watch(WEB, index=index + 1, recursive=True))
    client.set(f"{WEB}/2", "b")
    seen = tree.result(10)
    assert (seen.action, seen.key, seen.value) == ("set", f"{WEB}/2", "b")
    assert not one.done()
    client.delete(f"{WEB}/1")
    gone = one.result(10)
    assert (gone.action, gone.key, gone._prev_node.value) == ("delete", f"{WEB}/1", "a")


def test_wait_for_ever(
    client: etcd.Client, aside: Callable[[Callable[[], etcd.EtcdResult]], Future[etcd.EtcdResult]]
) -> None:
    index = client.set(f"{WEB}/0", "a").modifiedIndex
    events = client.eternal_watch(WEB, index=index + 1, recursive=True)
    for number in range(1, 6):
        future = aside(lambda: next(events))
        client.set(f"{WEB}/{number}", str(number))
        event = future.result(10)
        assert (event.key, event.value) == (f"{WEB}/{number}", str(number))


def test_a_wait_that_times_out(client: etcd.Client) -> None:
    with pytest.raises(etcd.EtcdWatchTimedOut):
        client.watch(f"{WEB}/1", timeout=0.2)
    assert client.set(f"{WEB}/1", "a").newKey


def test_compare_and_swap(client: etcd.Client) -> None:
    index = client.write(f"{WEB}/1", "a", prevExist=False).modifiedIndex
    with pytest.raises(etcd.EtcdAlreadyExist):
        client.write(f"{WEB}/1", "b", prevExist=False)
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.write(f"{WEB}/2", "b", prevExist=True)
    swapped = client.test_and_set(f"{WEB}/1", "b", "a")
    assert (swapped.action, swapped.value) == ("compareAndSwap", "b")
    with pytest.raises(etcd.EtcdCompareFailed):
        client.test_and_set(f"{WEB}/1", "c", "a")
    with pytest.raises(etcd.EtcdCompareFailed):
        client.write(f"{WEB}/1", "c", prevIndex=index)
    read = client.read(f"{WEB}/1")
    read.value = "c"
    assert client.update(read).value == "c"
    with pytest.raises(etcd.EtcdCompareFailed):
        client.delete(f"{WEB}/1", prevValue="b")
    assert client.delete(f"{WEB}/1", prevValue="c").action == "compareAndDelete"


def test_delete(client: etcd.Client) -> None:
    client.set(f"{WEB}/1", "a")
    gone = client.delete(f"{WEB}/1")
    assert (gone.action, gone._prev_node.value) == ("delete", "a")
    with pytest.raises(etcd.EtcdKeyNotFound):
        client.delete(f"{WEB}/1")
    client.set(f"{WEB}/1", "b")
    assert client.pop(f"{WEB}/1").value == "b"


def test_directories(client: etcd.Client) -> None:
    assert client.write(f"{WEB}/sub", None, dir=True).dir
    for key in ("1", "sub/2", "sub/3"):
        client.set(f"{WEB}/{key}", key)
    listed = client.read(WEB)
    assert listed.dir
    assert [(each.key, each.dir) for each in listed.children] == [(f"{WEB}/1", False), (f"{WEB}/sub", True)]
    leaves = client.read(WEB, recursive=True, sorted=True).leaves
    assert [(leaf.key, leaf.value) for leaf in leaves] == [
        (f"{WEB}/{key}", key) for key in ("1", "sub/2", "sub/3")
    ]
    with pytest.raises(etcd.EtcdNotFile):
        client.write(f"{WEB}/sub", None, dir=True)
    with pytest.raises(etcd.EtcdNotFile):
        client.delete(f"{WEB}/sub")
    with pytest.raises(etcd.EtcdDirNotEmpty):
        client.delete(f"{WEB}/sub", dir=True)
    assert client.delete(f"{WEB}/sub", recursive=True).dir
    assert [leaf.key for leaf in client.read(WEB, recursive=True).leaves] == [f"{WEB}/1"]


def test_keys_in_order(client: etcd.Client) -> None:
    made = [client.write(WEB, str(number), append=True) for number in range(3)]
    assert {each.action for each in made} == {"create"}
    assert [each.key for each in client.read(WEB, sorted=True).leaves] == [each.key for each in made]


def test_the_root_is_not_ours(client: etcd.Client) -> None:
    with pytest.raises(etcd.EtcdRootReadOnly):
        client.set("/other", "a")
