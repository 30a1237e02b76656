"""The committed reference of metrics is what the metrics are."""

from __future__ import annotations

from pathlib import Path

from discovery.metrics_reference import FILE, names, reference

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_committed_file_is_up_to_date() -> None:
    assert (DEPLOY / FILE).read_text() == reference(), (
        f"deploy/{FILE} is not what the metrics are; write it anew with `python -m discovery.metrics_reference`"
    )


def test_it_has_a_row_for_every_metric() -> None:
    text = reference()
    for name in names():
        assert text.count(f"\n| `{name}` |") == 1, name
