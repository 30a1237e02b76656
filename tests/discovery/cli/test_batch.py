"""Operations from files in every form, in calls of a size, and what is said of those that were refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from discovery.cli import batch
from discovery.errors import InvalidField
from tests.discovery.cli.conftest import Run
from tests.support.http_node import HttpNode

PUT = {"put": {"service": "web", "instance": "i1", "host": "10.0.0.1"}}
DELETE = {"delete": {"service": "web", "instance": "i2"}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([PUT, DELETE]),
        json.dumps({"operations": [PUT, DELETE]}, indent=2),
        f"{json.dumps(PUT)}\n\n{json.dumps(DELETE)}\n",
        "- put: {service: web, instance: i1, host: 10.0.0.1}\n- delete: {service: web, instance: i2}\n",
    ],
    ids=["list", "body", "lines", "yaml"],
)
def test_every_form(tmp_path: Path, text: str) -> None:
    file = tmp_path / "batch"
    file.write_text(text)
    assert batch.read(file) == [PUT, DELETE]


def test_one_operation_is_a_list_of_one(tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_text(json.dumps(PUT))
    assert batch.read(file) == [PUT]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no list of operations"),
        ("7", "holds no list of operations"),
        ("[]", "holds no list of operations"),
        ("[1]", "holds no list of operations"),
        ("a: [", "line 1 is neither YAML nor JSON"),
    ],
)
def test_what_is_none_is_said_in_a_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "batch"
    file.write_text(text)
    with pytest.raises(InvalidField, match=complaint):
        batch.read(file)


def test_no_file(run: Run) -> None:
    assert (
        run("batch", "nothing-there").err
        == "discovery: nothing-there cannot be read: No such file or directory\n"
    )


def test_the_refused_are_named_and_make_it_1(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "batch"
    file.write_text(json.dumps([PUT, DELETE]))
    results = [{"status": 201, "revision": 7}, {"status": 404, "problem": {"detail": "there is none"}}]
    with HttpNode() as node:
        node.answers["POST", "/v1/batch"] = {"revision": 7, "results": results}
        status, out, _ = run("batch", str(file), "--node", node.url)
        assert status == 1
        assert out.splitlines() == [
            "1 of 2 operations are done",
            "OPERATION  OF             REFUSED BECAUSE",
            "2          delete i2.web  there is none",
        ]
        status, out, _ = run("batch", str(file), "--node", node.url, "-o", "json")
        assert (status, json.loads(out)) == (1, {"revision": 7, "results": results})


def test_many_go_in_several_calls(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "AT_ONCE", 2)
    file = tmp_path / "batch"
    file.write_text("\n".join([json.dumps(DELETE)] * 5))
    with HttpNode() as node:
        node.answers["POST", "/v1/batch"] = {"revision": 7, "results": [{"status": 204}]}
        run("batch", str(file), "--node", node.url)
        assert node.count("POST") == 3
