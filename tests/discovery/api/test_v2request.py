"""What a request of /v2/keys may say; etcd 2's own answers are the model."""

from __future__ import annotations

from pathlib import Path

from tests.support.api import running_api
from tests.support.etcd2 import failure

WEB = "/skydns/internal/discovery/web"
URL = f"/v2/keys{WEB}"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def test_unknown_parameters_are_refused_never_ignored(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        await api.form(f"{URL}/1", value="a")
        answers = [await api.form(f"{URL}/1", value="{}", prevexist="false")]
        answers += [
            await api.call(method, f"{URL}/1?prevexist=false") for method in ("GET", "PUT", "POST", "DELETE")
        ]
        for answer in answers:
            assert "prevexist" in failure(answer, 400, 209, "Invalid field")
        assert (await api.call("GET", f"{URL}/1")).body["node"]["value"] == "a"


async def test_parameters_that_do_not_apply_are_ignored_as_in_etcd(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        put = await api.form(
            f"{URL}/1", value="a", quorum="true", recursive="true", sorted="false", waitIndex="9"
        )
        assert put.status == 201
        get = await api.call(
            "GET", f"{URL}/1?quorum=true&sorted=true&wait=false&prevExist=false&ttl=5&dir=false"
        )
        assert get.status == 200
        assert (await api.call("DELETE", f"{URL}/1?quorum=false&prevExist=false&sorted=true")).status == 200


async def test_a_form_comes_before_the_query(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        answer = await api.call(
            "PUT", f"{URL}/1?value=query&value=third", content=b"value=form", headers=FORM
        )
        assert answer.body["node"]["value"] == "form"
        query_only = await api.call("DELETE", f"{URL}/1", content=b"prevValue=other", headers=FORM)
        assert query_only.body["action"] == "delete"


async def test_wrong_values_are_refused(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for ttl in ("x", "-1", "0", "1.5", "99999999999", "2147483648", "²"):
            refused = await api.form(f"{URL}/1", value="{}", ttl=ttl)
            failure(refused, 400, 202, "The given TTL in POST form is not a number")
        for name in ("prevIndex", "waitIndex"):
            for index in ("x", "-1", "", "18446744073709551616"):
                refused = await api.form(f"{URL}/1", value="{}", **{name: index})
                cause = f'invalid value for "{name}"'
                failure(refused, 400, 203, "The given index in POST form is not a number", cause)
        for name in ("recursive", "sorted", "wait", "dir", "quorum", "stream", "prevExist", "refresh"):
            for text in ("maybe", ""):
                refused = await api.call("GET", f"{URL}?{name}={text}")
                failure(refused, 400, 209, "Invalid field", f'invalid value for "{name}"')
        empty = await api.form(f"{URL}/1", value="{}", prevValue="")
        failure(empty, 400, 201, "PrevValue is Required in POST form", '"prevValue" cannot be empty')
        for method in ("PUT", "POST", "DELETE", "HEAD"):
            refused = await api.call(method, f"{URL}/1?wait=true")
            assert refused.status == 400
        failure(await api.form(f"{URL}/1", wait="true"), 400, 209, "Invalid field")
        valued = await api.form(f"{URL}/1", refresh="true", ttl="5", value="x")
        failure(valued, 400, 211, "Value provided on refresh", "A value was provided on a refresh")
        timeless = await api.form(f"{URL}/1", refresh="true")
        failure(timeless, 400, 212, "A TTL must be provided on refresh", "No TTL value set")
        assert await api.kv(f"{WEB}/1".encode()) is None


async def test_forms_that_cannot_be_read(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        many = b"&".join(b"value=%d" % number for number in range(17))
        for content in (b"value=%FF", many):
            answer = await api.call("PUT", f"{URL}/1", content=content, headers=FORM)
            failure(answer, 400, 210, "Invalid POST form")
        cut = await api.call("PUT", f"{URL}/1", content=b"value=a&b", headers=FORM)
        failure(cut, 400, 209, "Invalid field")  # a value with & that was not encoded
        json = {"Content-Type": "application/json"}
        answer = await api.call("PUT", f"{URL}/1", content=b'{"value": 1}', headers=json)
        failure(answer, 400, 210, "Invalid POST form")
        assert await api.kv(f"{WEB}/1".encode()) is None
        bare = await api.call("PUT", f"{URL}/1", content=b"value", headers=FORM)
        assert (bare.status, bare.body["node"]["value"]) == (201, "")
