"""The committed reference and example are what the table of settings says."""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.config import Config, load
from discovery.config_reference import FILES, example, reference
from discovery.settings import TABLE

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(("name", "text"), [(FILES[0], example()), (FILES[1], reference())], ids=FILES)
def test_committed_files_are_up_to_date(name: str, text: str) -> None:
    assert (DEPLOY / name).read_text() == text, (
        f"deploy/{name} is not what the settings say; write it anew with `python -m discovery.config_reference`"
    )


def test_the_example_names_every_setting_and_loads_as_the_defaults(tmp_path: Path) -> None:
    loaded = load(DEPLOY / "discovery.example.yaml", {}, cwd=tmp_path)
    assert loaded.config == Config()
    assert "default" not in loaded.origins.values()


def test_the_reference_has_a_row_for_every_setting() -> None:
    text = reference()
    for setting in TABLE.settings():
        assert f"\n| `{setting.key}` |" in text
    assert "\n| `zones[].negative_grace` | `60` |" in text
