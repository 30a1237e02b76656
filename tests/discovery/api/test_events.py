"""The lines of a watch: both formats, what goes on and what does not."""

from __future__ import annotations

import json

from discovery.api.events import Gone, Told, keep_alive, lagged, synced


def test_an_event_in_all_its_forms() -> None:
    told = Told(7, Gone(7, "web.prod", "i1", "i1.web.prod.test.", "expired"))
    line = told.line("ndjson", more=False)
    assert line.endswith(b"}\n")
    document = {
        "type": "delete",
        "revision": 7,
        "service": "web.prod",
        "instance": "i1",
        "name": "i1.web.prod.test.",
        "reason": "expired",
    }
    assert json.loads(line) == document
    assert json.loads(told.line("ndjson", more=True)) == document | {"more": True}
    assert told.line("sse", more=False) == b"id: 7\ndata: " + line + b"\n"
    assert told.line("sse", more=True) == b"data: " + told.line("ndjson", more=True) + b"\n"
    assert told.line("sse", more=True) is told.line("sse", more=True)


def test_a_reason_that_nobody_knows_is_left_out() -> None:
    assert b"reason" not in Told(7, Gone(7, "web.prod", "i1", "i1.web.prod.test.")).line("ndjson", more=False)


def test_lines_that_are_no_change() -> None:
    assert synced("ndjson", 9) == b'{"type":"synced","revision":9}\n'
    assert synced("sse", 9) == b'id: 9\ndata: {"type":"synced","revision":9}\n\n'
    assert lagged("sse") == b'data: {"type":"lagged"}\n\n'  # nobody goes on from here
    assert (keep_alive("ndjson"), keep_alive("sse")) == (b"\n", b":\n\n")
