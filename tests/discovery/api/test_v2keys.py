"""/v2/keys as tools that write for SkyDNS 2 use it; etcd 2's own answers are the model."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from discovery.api.v2request import MAX_VALUE
from discovery.raw_keys import own_lease_id
from tests.support.api import problem, running_api
from tests.support.etcd2 import failure

WEB = "/skydns/internal/discovery/web"
URL = f"/v2/keys{WEB}"
VALUE = '{"host":"10.0.0.1","port":80}'
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


# ---------------------------------------------------------------- one key


async def test_put_get_replace_delete(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        created = await api.form(f"{URL}/1", value=VALUE)
        node = {"key": f"{WEB}/1", "value": VALUE, "modifiedIndex": 2, "createdIndex": 2}
        assert (created.status, created.body) == (201, {"action": "set", "node": node})
        assert created.headers["X-Etcd-Index"] == created.headers["X-Revision"] == "2"
        assert created.headers["Content-Type"] == "application/json"

        read = await api.call("GET", f"{URL}/1")
        assert (read.status, read.body) == (200, {"action": "get", "node": node})
        assert read.headers["X-Etcd-Index"] == "2"
        assert (await api.call("HEAD", f"{URL}/1")).status == 200

        replaced = await api.form(f"{URL}/1", value="{}")
        new = {**node, "value": "{}", "modifiedIndex": 3}
        assert (replaced.status, replaced.body) == (200, {"action": "set", "node": new, "prevNode": node})

        deleted = await api.call("DELETE", f"{URL}/1")
        gone = {"key": f"{WEB}/1", "modifiedIndex": 4, "createdIndex": 2}
        assert (deleted.status, deleted.body) == (200, {"action": "delete", "node": gone, "prevNode": new})
        assert deleted.headers["X-Etcd-Index"] == "4"
        for method in ("GET", "DELETE"):
            failure(await api.call(method, f"{URL}/1"), 404, 100, "Key not found", f"{WEB}/1")


async def test_the_view_has_it_when_the_answer_is_there(tmp_path: Path) -> None:
    path = (b"internal", b"discovery", b"web", b"1")
    async with running_api(tmp_path) as api:
        await api.form(f"{URL}/1", value=VALUE, ttl="100")
        record = api.view.record(path)
        assert record is not None
        assert (record.address, record.lease_ttl) == (b"\x0a\x00\x00\x01", 100)
        assert api.view.unknown_leases == set()
        await api.call("DELETE", f"{URL}/1")
        assert api.view.record(path) is None
        await api.form(f"{URL}/1", value=VALUE)
        await api.call("DELETE", f"{URL}?recursive=true")
        assert api.view.record(path) is None


async def test_parameters_may_stand_in_the_url(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call("PUT", f"{URL}/1?value=%7B%7D&ttl=20")
        assert answer.status == 201
        assert (answer.body["node"]["value"], answer.body["node"]["ttl"]) == ("{}", 20)
        empty = await api.call("PUT", f"{URL}/2")
        assert (empty.status, empty.body["node"]["value"]) == (201, "")


async def test_a_ttl_is_a_lease_of_the_keys_own(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = (await api.form(f"{URL}/1", value=VALUE, ttl="60")).body["node"]
        assert (first["ttl"], first["expiration"]) == (60, "2023-11-14T22:14:20.250Z")
        api.clock.advance(50)
        read = (await api.call("GET", f"{URL}/1")).body["node"]
        assert read == {**first, "ttl": 10, "expiration": "2023-11-14T22:13:30.250Z"}
        again = (await api.form(f"{URL}/1", value=VALUE, ttl="60")).body["node"]
        assert (again["ttl"], again["modifiedIndex"]) == (60, 3)
        await api.expire(59)
        assert (await api.call("GET", f"{URL}/1")).status == 200
        await api.expire(2)
        assert (await api.call("GET", f"{URL}/1")).status == 404


async def test_the_lease_that_is_replaced_is_revoked(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for ttl in ("60", "60", "70", "80"):
            answer = await api.form(f"{URL}/1", value=VALUE, ttl=ttl)
            assert answer.body["node"]["ttl"] == int(ttl)
            assert await api.leases() == 1
        permanent = await api.form(f"{URL}/1", value=VALUE)
        assert "ttl" not in permanent.body["node"]
        assert "expiration" not in permanent.body["node"]
        assert await api.leases() == 0
        await api.form(f"{URL}/1", value=VALUE, ttl="60")
        await api.call("DELETE", f"{URL}/1")
        assert await api.leases() == 0


async def test_a_shared_lease_is_not_revoked_by_a_raw_put(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 40})).body["id"]
        await api.call("PUT", "/v1/services/web/1", {"host": "10.0.0.1", "lease": lease})
        await api.form(f"{URL}/1", value=VALUE)
        assert (await api.call("GET", f"/v1/leases/{lease}")).status == 200
        own = (await api.call("PUT", "/v1/services/web/2", {"host": "10.0.0.1"})).body["lease"]
        await api.form(f"{URL}/2", value=VALUE)
        assert (await api.call("GET", f"/v1/leases/{own}")).status == 404


async def test_a_lease_of_the_keys_own_tells_by_its_id(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.form(f"{URL}/1", value=VALUE, ttl="60")
        held = await api.kv(f"{WEB}/1".encode())
        assert held is not None
        assert held.lease - own_lease_id(held.key, 0) in range(1 << 15)
        put = await api.call("PUT", "/v1/services/web/1", {"host": "10.0.0.2", "lease_ttl": 60})
        assert (put.status, await api.leases()) == (200, 1)


async def test_a_value_of_a_mebibyte(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        body = b"value=%7B" + b"x" * (MAX_VALUE - 1)
        answer = await api.call("PUT", f"{URL}/1", content=body, headers=FORM)
        assert answer.status == 201
        assert answer.body["node"]["value"] == "{" + "x" * (MAX_VALUE - 1)
        over = await api.call("PUT", f"{URL}/1", content=body + b"x", headers=FORM)
        failure(over, 413, 209, "Invalid field")
        far_over = await api.call("PUT", f"{URL}/1", content=body * 5, headers=FORM)
        failure(far_over, 413, 209, "Invalid field")


# ---------------------------------------------------------------- compare and swap, create, update, refresh


async def test_compare_and_swap(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        failure(await api.form(f"{URL}/1", value="x", prevValue="a"), 404, 100, "Key not found", f"{WEB}/1")
        failure(await api.form(f"{URL}/1", value="x", prevIndex="7"), 404, 100, "Key not found", f"{WEB}/1")
        await api.form(f"{URL}/1", value="a")
        for wrong, cause in (
            ({"prevValue": "b"}, "[b != a]"),
            ({"prevIndex": "7"}, "[7 != 2]"),
            ({"prevValue": "b", "prevIndex": "7"}, "[b != a] [7 != 2]"),
            ({"prevValue": "a", "prevIndex": "7"}, "[7 != 2]"),
            ({"prevValue": "b", "prevExist": "true"}, "[b != a]"),
        ):
            failure(await api.form(f"{URL}/1", value="x", **wrong), 412, 101, "Compare failed", cause)
        swapped = await api.form(f"{URL}/1", value="b", prevValue="a", prevIndex="2")
        old = {"key": f"{WEB}/1", "value": "a", "modifiedIndex": 2, "createdIndex": 2}
        new = {**old, "value": "b", "modifiedIndex": 3}
        assert swapped.body == {"action": "compareAndSwap", "node": new, "prevNode": old}
        assert swapped.status == 200
        unasked = await api.form(f"{URL}/1", value="c", prevIndex="0")
        assert unasked.body["action"] == "set"


async def test_of_many_swaps_of_one_value_one_holds(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.form(f"{URL}/1", value="free")
        swaps = [api.form(f"{URL}/1", value=f"mine {each}", prevValue="free") for each in range(20)]
        statuses = [answer.status for answer in await asyncio.gather(*swaps)]
        assert sorted(statuses) == [200] + 19 * [412]
        made = [api.form(f"{URL}/2", value=f"mine {each}", prevExist="false") for each in range(20)]
        statuses = [answer.status for answer in await asyncio.gather(*made)]
        assert sorted(statuses) == [201] + 19 * [412]


async def test_create_and_update(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        failure(
            await api.form(f"{URL}/1", value="x", prevExist="true"), 404, 100, "Key not found", f"{WEB}/1"
        )
        await api.form(f"{URL}/1/below", value="{}")
        created = await api.form(f"{URL}/1", value="a", ttl="60", prevExist="false")
        assert (created.status, created.body["action"], created.body["node"]["ttl"]) == (201, "create", 60)
        assert "prevNode" not in created.body
        again = await api.form(f"{URL}/1", value="b", prevExist="false")
        failure(again, 412, 105, "Key already exists", f"{WEB}/1")
        api.clock.advance(20)
        updated = await api.form(f"{URL}/1", value="b", prevExist="true")
        assert (updated.status, updated.body["action"]) == (200, "update")
        assert (updated.body["node"]["value"], "ttl" in updated.body["node"]) == ("b", False)
        previous = updated.body["prevNode"]
        assert (previous["value"], previous["ttl"], previous["expiration"]) == (
            "a",
            40,
            "2023-11-14T22:14:00.250Z",
        )
        assert await api.leases() == 0


async def test_compare_and_delete(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        failure(await api.call("DELETE", f"{URL}/1?prevValue=a"), 404, 100, "Key not found", f"{WEB}/1")
        await api.form(f"{URL}/1", value="a", ttl="60")
        await api.form(f"{URL}/1/below", value="{}")
        wrong = await api.call("DELETE", f"{URL}/1?prevValue=b")
        failure(wrong, 412, 101, "Compare failed", "[b != a]")
        wrong = await api.call("DELETE", f"{URL}/1?prevIndex=9")
        failure(wrong, 412, 101, "Compare failed", "[9 != 2]")
        held = (await api.call("GET", f"{URL}/1")).body["node"]
        gone = await api.call("DELETE", f"{URL}/1?prevValue=a&prevIndex={held['modifiedIndex']}")
        node = {"key": f"{WEB}/1", "modifiedIndex": 4, "createdIndex": 2}
        assert gone.body == {"action": "compareAndDelete", "node": node, "prevNode": held}
        assert await api.leases() == 0
        assert (await api.call("GET", f"{URL}/1/below")).status == 200


async def test_a_refresh_gives_time_and_keeps_the_value(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        failure(await api.form(f"{URL}/1", refresh="true", ttl="60"), 404, 100, "Key not found", f"{WEB}/1")
        missing = await api.form(f"{URL}/1", refresh="true", ttl="60", prevExist="true")
        failure(missing, 404, 100, "Key not found", f"{WEB}/1")
        await api.form(f"{URL}/1", value="a", ttl="60")
        api.clock.advance(50)
        kept = (await api.form(f"{URL}/1", refresh="true", ttl="60")).body
        assert (kept["action"], kept["node"]["value"], kept["node"]["ttl"]) == ("set", "a", 60)
        assert (kept["prevNode"]["ttl"], kept["node"]["modifiedIndex"]) == (10, 2)
        await api.expire(59)
        longer = (await api.form(f"{URL}/1", refresh="true", ttl="90", prevExist="true")).body
        assert (longer["action"], longer["node"]["value"], longer["node"]["ttl"]) == ("update", "a", 90)
        wrong = await api.form(f"{URL}/1", refresh="true", ttl="90", prevValue="b")
        failure(wrong, 412, 101, "Compare failed", "[b != a]")
        swapped = (await api.form(f"{URL}/1", refresh="true", ttl="90", prevValue="a")).body
        assert (swapped["action"], swapped["node"]["value"]) == ("compareAndSwap", "a")
        assert await api.leases() == 1
        await api.expire(91)
        assert (await api.call("GET", f"{URL}/1")).status == 404


async def test_no_value_on_success(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for status, fields in (
            (201, {"value": "a", "prevExist": "false"}),
            (200, {"value": "b"}),
            (200, {"value": "c", "prevValue": "b"}),
            (200, {"value": "d", "prevExist": "true"}),
        ):
            answer = await api.form(f"{URL}/1", noValueOnSuccess="true", **fields)
            assert (answer.status, list(answer.body)) == (status, ["action"])
            assert "X-Etcd-Index" in answer.headers


async def test_keys_in_order(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        first = await api.call("POST", f"{URL}?ttl=60", content=b"value=0", headers=FORM)
        node = first.body["node"]
        assert (first.status, first.body["action"], node["value"], node["ttl"]) == (201, "create", "0", 60)
        assert node["key"] == f"{WEB}/{node['createdIndex']:020d}"
        one_by_one = [
            (await api.call("POST", f"{URL}?value={each}")).body["node"]["key"] for each in range(5)
        ]
        assert one_by_one == sorted(one_by_one)
        at_once = await asyncio.gather(*(api.call("POST", f"{URL}?value={each}") for each in range(6)))
        keys = {answer.body["node"]["modifiedIndex"]: answer.body["node"]["key"] for answer in at_once}
        assert len(keys) == len(set(keys.values())) == 6
        assert [keys[index] for index in sorted(keys)] == sorted(keys.values())  # in the order they were made
        assert min(keys.values()) > max(one_by_one)
        listed = (await api.call("GET", URL)).body["node"]["nodes"]
        assert [node["key"] for node in listed] == [node["key"], *one_by_one, *sorted(keys.values())]
        short = await api.call("POST", f"{URL}?value=x&noValueOnSuccess=true")
        assert (short.status, short.body) == (201, {"action": "create"})
        failure(await api.call("POST", f"{URL}?dir=true"), 400, 209, "Invalid field")
        assert (await api.call("POST", "/v2/keys/skydns?value=x")).status == 201


# ---------------------------------------------------------------- keys


async def test_keys_are_percent_decoded_and_cleaned(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for url, key in (
            ("/v2/keys/skydns/a%20b", "/skydns/a b"),
            ("/v2/keys/skydns/%C3%A4", "/skydns/ä"),
            ("/v2/keys/skydns/x%2Fy", "/skydns/x/y"),
            ("/v2/keys//skydns//x/./z/", "/skydns/x/z"),
            ("/v2/keys/skydns/q/../r", "/skydns/r"),
            ("/v2/keys/skydns/Web%25", "/skydns/Web%"),
        ):
            answer = await api.form(url, value="{}")
            assert (answer.status, answer.body["node"]["key"]) == (201, key)
            assert await api.kv(key.encode()) is not None


async def test_only_keys_below_the_prefix_are_there(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.store.put(b"/discovery/secret", b"x")
        await api.store.put(b"/skydns2/x", b"x")
        for url in ("", "/", "/discovery/secret", "/skydns2/x", "/skydns/../discovery/secret"):
            url = f"/v2/keys{url}"
            for answer in (
                await api.call("GET", f"{url}?recursive=true"),
                await api.form(url, value="{}"),
                await api.call("DELETE", f"{url}?recursive=true"),
            ):
                assert "below /skydns" in failure(answer, 403, 107, "Root is read only")
        failure(await api.form("/v2/keys/skydns", value="{}"), 403, 107, "Root is read only")
        assert len((await api.store.range(b"/", b"0")).kvs) == 2
        failure(await api.call("GET", "/v2/keys/skydns/%FF"), 400, 209, "Invalid field")
        problem(await api.call("GET", "/v2/keysx"), 404, "not-found")


# ---------------------------------------------------------------- directories


async def test_a_directory_is_made_of_the_keys_below_it(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for key in ("b", "a/1", "a/2", "ab"):
            await api.form(f"/v2/keys/skydns/test/{key}", value=key, ttl="9" if key == "b" else "")

        def file(key: str, index: int) -> dict[str, Any]:
            return {
                "key": f"/skydns/test/{key}",
                "value": key,
                "modifiedIndex": index,
                "createdIndex": index,
            }

        leased = {**file("b", 2), "ttl": 9, "expiration": "2023-11-14T22:13:29.250Z"}
        inner = {"key": "/skydns/test/a", "dir": True, "modifiedIndex": 3, "createdIndex": 3}
        outer = {"key": "/skydns/test", "dir": True, "modifiedIndex": 2, "createdIndex": 2}
        flat = await api.call("GET", "/v2/keys/skydns/test")
        assert flat.status == 200
        assert flat.body == {
            "action": "get",
            "node": {**outer, "nodes": [inner, file("ab", 5), leased]},
        }
        deep = await api.call("GET", "/v2/keys/skydns/test/?recursive=true&sorted=true&quorum=true")
        files = [file("a/1", 3), file("a/2", 4)]
        assert deep.body["node"] == {**outer, "nodes": [{**inner, "nodes": files}, file("ab", 5), leased]}
        top = (await api.call("GET", "/v2/keys/skydns")).body["node"]
        assert top["nodes"] == [outer]


async def test_the_prefix_is_a_directory_that_is_always_there(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        node = {"key": "/skydns", "dir": True, "modifiedIndex": 1, "createdIndex": 1}
        assert (await api.call("GET", "/v2/keys/skydns")).body == {"action": "get", "node": node}


async def test_a_key_and_keys_below_it_may_both_exist(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.form("/v2/keys/skydns/a", value="A")).status == 201
        assert (await api.form("/v2/keys/skydns/a/b", value="B")).status == 201
        assert (await api.form("/v2/keys/skydns/a", value="A")).status == 200
        assert (await api.call("GET", "/v2/keys/skydns/a")).body["node"]["value"] == "A"
        deep = (await api.call("GET", "/v2/keys/skydns/a?recursive=true")).body["node"]
        assert (deep["key"], deep["value"], deep["dir"]) == ("/skydns/a", "A", True)
        assert [(node["key"], node["value"]) for node in deep["nodes"]] == [("/skydns/a/b", "B")]
        listed = (await api.call("GET", "/v2/keys/skydns")).body["node"]["nodes"]
        assert [(node["key"], node.get("value"), node.get("dir")) for node in listed] == [
            ("/skydns/a", "A", None),
            ("/skydns/a", None, True),
        ]
        failure(await api.call("DELETE", "/v2/keys/skydns/a?dir=true"), 403, 108, "Directory not empty")
        assert (await api.call("DELETE", "/v2/keys/skydns/a")).status == 200
        assert (await api.call("GET", "/v2/keys/skydns/a/b")).status == 200


async def test_deleting_a_directory(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for key in ("test", "test/a", "test/b/c", "test2", "test-3"):
            await api.form(f"/v2/keys/skydns/{key}", value="{}")
        url = "/v2/keys/skydns/test/b"
        failure(await api.call("DELETE", url), 403, 102, "Not a file", "/skydns/test/b")
        failure(await api.call("DELETE", f"{url}?dir=true"), 403, 108, "Directory not empty")
        answer = await api.call("DELETE", "/v2/keys/skydns/test?recursive=true&dir=true")
        assert answer.status == 200
        assert answer.body == {
            "action": "delete",
            "node": {"key": "/skydns/test", "dir": True, "modifiedIndex": 7, "createdIndex": 2},
            "prevNode": {"key": "/skydns/test", "dir": True, "modifiedIndex": 2, "createdIndex": 2},
        }
        assert [kv.key for kv in (await api.store.range(b"/", b"0")).kvs] == [
            b"/skydns/test-3",
            b"/skydns/test2",
        ]
        again = await api.call("DELETE", "/v2/keys/skydns/test?recursive=true")
        failure(again, 404, 100, "Key not found", "/skydns/test")
        single = await api.call("DELETE", "/v2/keys/skydns/test2?recursive=true")
        assert single.body["prevNode"]["value"] == "{}"
        assert (await api.call("DELETE", "/v2/keys/skydns?recursive=true")).status == 200
        assert (await api.store.range(b"/", b"0")).kvs == []


async def test_making_a_directory_stores_nothing(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.form("/v2/keys/skydns/new", dir="true")
        node = {"key": "/skydns/new", "dir": True, "modifiedIndex": 1, "createdIndex": 1}
        assert (answer.status, answer.body) == (201, {"action": "set", "node": node})
        assert (await api.store.range(b"/", b"0")).kvs == []
        failure(await api.call("GET", "/v2/keys/skydns/new"), 404, 100, "Key not found")
        url = "/v2/keys/skydns/new"
        failure(await api.form(url, dir="true", prevExist="true"), 404, 100, "Key not found")
        assert (await api.form(url, dir="true", prevExist="false")).body["action"] == "create"
        await api.form(f"{url}/key", value="{}")
        failure(await api.form(url, dir="true"), 403, 102, "Not a file", "/skydns/new")
        failure(await api.form(url, dir="true", prevExist="false"), 412, 105, "Key already exists")
        again = await api.form(url, dir="true", prevExist="true")
        assert (again.status, again.body["action"], again.body["node"]["createdIndex"]) == (200, "update", 2)
        short = await api.form(url, dir="true", prevExist="true", noValueOnSuccess="true")
        assert short.body == {"action": "update"}
        for more in ({"value": "x"}, {"ttl": "5"}, {"prevIndex": "2"}):
            failure(await api.form(url, dir="true", **more), 400, 209, "Invalid field")
        failure(await api.form("/v2/keys/skydns", dir="true"), 403, 107, "Root is read only")


async def test_hidden_keys_are_listed_nowhere_and_there_by_name(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for key in ("_h", "a/_d/x", "a/b", "c_d"):
            await api.form(f"/v2/keys/skydns/{key}", value=key)
        for url, keys in (
            ("/v2/keys/skydns", ["/skydns/a", "/skydns/c_d"]),
            ("/v2/keys/skydns/a?recursive=true", ["/skydns/a/b"]),
            ("/v2/keys/skydns/a/_d", ["/skydns/a/_d/x"]),
        ):
            nodes = (await api.call("GET", url)).body["node"]["nodes"]
            assert [node["key"] for node in nodes] == keys
        assert (await api.call("GET", "/v2/keys/skydns/_h")).body["node"]["value"] == "_h"


async def test_deleting_a_tree_ends_the_leases_of_its_keys(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        lease = (await api.call("POST", "/v1/leases", {"ttl": 40})).body["id"]
        await api.call("PUT", "/v1/services/web/shared", {"host": "10.0.0.1", "lease": lease})
        await api.call("PUT", "/v1/services/web/own", {"host": "10.0.0.1"})
        for number in range(70):
            await api.form(f"{URL}/{number}", value="{}", ttl="60")
        assert await api.leases() == 72
        assert (await api.call("DELETE", f"{URL}?recursive=true")).status == 200
        assert await api.leases() == 1
        assert (await api.call("GET", f"/v1/leases/{lease}")).body["instances"] == []


async def test_keys_deeper_than_any_name(tmp_path: Path) -> None:
    key = "/skydns" + "/a" * 2000
    async with running_api(tmp_path) as api:
        assert (await api.form(f"/v2/keys{key}", value="deep")).status == 201
        answer = await api.call("GET", "/v2/keys/skydns?recursive=true")
        node = answer.body["node"]
        for _ in range(128):
            (node,) = node["nodes"]
        assert [each["value"] for each in node["nodes"]] == ["deep"]
        assert node["nodes"][0]["key"] == key


# ---------------------------------------------------------------- refusals


async def test_clients_find_the_headers_they_look_for(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answers = [
            await api.form(f"{URL}/1", value="a"),
            await api.call("GET", URL),
            await api.call("GET", "/v2/keys"),
        ]
        for answer in answers:
            assert answer.headers["X-Etcd-Index"] == answer.headers["X-Raft-Index"]
            assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Etcd-Cluster-Id"])
        assert len({answer.headers["X-Etcd-Cluster-Id"] for answer in answers}) == 1
        problem(await api.call("PATCH", f"{URL}/1"), 405, "method-not-allowed")


async def test_without_the_view_or_the_store(tmp_path: Path) -> None:
    async with running_api(tmp_path, loaded=False) as api:
        answer = await api.call("GET", URL)
        failure(answer, 503, 300, "Raft Internal Error")
        assert answer.headers["Retry-After"] == "1"
        await api.feed.start()
        await api.store.close()
        for answer in (await api.call("GET", URL), await api.form(f"{URL}/1", value="{}")):
            failure(answer, 503, 300, "Raft Internal Error")
            assert answer.headers["Retry-After"] == "1"


async def test_a_line_end_may_stand_in_a_key(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.form("/v2/keys/skydns/test/a%0Ab", value="{}")).status == 201
        assert (await api.call("GET", "/v2/keys/skydns/test/a%0Ab")).body["node"][
            "key"
        ] == "/skydns/test/a\nb"
