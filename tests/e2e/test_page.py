"""The web page in a real browser: what is registered appears, counts down, vanishes; what is done by hand is done."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import LIMIT, Tab
from tests.support.node import RunningNode, running_node

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

expect.set_options(timeout=LIMIT * 1000)

BODY = {"host": "10.0.0.1", "port": 8080, "lease_ttl": 0}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    with running_node(tmp_path / "store") as started:
        yield started


def put(node: RunningNode, name: str, **fields: object) -> None:
    status, answer = node.call("PUT", f"/v1/services/{name}", BODY | fields)
    assert status in (200, 201), answer


def instance(name: str) -> str:
    """The selector of its row."""
    return f".instances .rows .row:has(button.name:text-is('{name}'))"


def test_a_node_without_anything_says_how_to_begin_and_the_line_works(node: RunningNode, seen: Tab) -> None:
    page = seen.open(node.url)
    line = page.inner_text(".empty pre")
    assert line.startswith(f"curl -X PUT {node.url}/v1/services/")
    subprocess.run(["bash", "-c", line], check=True, capture_output=True, timeout=LIMIT)
    expect(page.locator(".services .name")).to_have_text("web.prod")
    expect(page.locator(".empty")).to_be_hidden()


def test_what_is_registered_appears_within_a_second(node: RunningNode, seen: Tab) -> None:
    page = seen.open(node.url)
    # The page notes by the machine's clock when it has shown a service for the first time.
    page.evaluate(
        """() => {
          window.shown = {};
          new MutationObserver(() => {
            for (const name of document.querySelectorAll(".services .name"))
              window.shown[name.textContent] ??= Date.now();
          }).observe(document.body, {childList: true, subtree: true, characterData: true});
        }"""
    )
    took = []
    for number in range(9):
        put(node, f"s{number}.prod/i1")
        answered = time.time()
        seen.wait("name => window.shown[name]", f"s{number}.prod")
        took.append(page.evaluate("name => window.shown[name]", f"s{number}.prod") / 1000 - answered)
    print(f"from the answer to the page: {[f'{each * 1000:.0f} ms' for each in took]}")
    assert statistics.median(took) < 1.0


def test_a_lease_counts_down_is_renewed_and_ends(node: RunningNode, seen: Tab) -> None:
    put(node, "web.prod/i1", lease_ttl=60)
    page = seen.open(node.url, "service/web.prod")
    left = "() => parseInt(document.querySelector('.instances .left')?.textContent ?? '0')"
    seen.wait(f"() => ({left})() > 0")
    for _ in range(4):
        before = page.evaluate(left)
        seen.wait(f"before => ({left})() < before", before)
    # The page itself notes the rise: however late it is drawn, it is as high as the lease was old.
    page.evaluate(
        f"""() => {{
          const left = {left};
          let last = left();
          window.renewed = false;
          new MutationObserver(() => {{
            const now = left();
            if (last > 0 && now > last + 1) window.renewed = true;
            last = now;
          }}).observe(document.querySelector(".instances"), {{childList: true, subtree: true, characterData: true}});
        }}"""
    )
    assert node.call("POST", "/v1/services/web.prod/i1/heartbeat", {})[0] == 200
    seen.wait("() => window.renewed")
    put(node, "web.prod/short", lease_ttl=2)
    expect(page.locator(instance("short"))).to_have_count(0)
    node.call("DELETE", "/v1/services/web.prod/i1")
    expect(page.locator("p.empty")).to_contain_text("leases have expired")


def test_drain_undo_and_deregister_by_the_buttons(node: RunningNode, seen: Tab) -> None:
    for name in ("i1", "i2"):
        put(node, f"web.prod/{name}", host=f"10.0.0.{name[1]}")
    page = seen.open(node.url, "service/web.prod")
    page.click(f"{instance('i1')} button:text-is('Drain')")
    expect(page.locator(f"{instance('i1')} .state")).to_contain_text("drained")
    expect(page.locator("#toasts")).to_contain_text("is out of DNS. No resolver holds it after")
    assert node.answers("web.prod.discovery.internal.", "A") == ["10.0.0.2"]
    page.click("#toasts button:text-is('Undo')")
    expect(page.locator(f"{instance('i1')} .state")).to_have_text("in DNS")
    assert node.answers("web.prod.discovery.internal.", "A") == ["10.0.0.1", "10.0.0.2"]
    page.click(f"{instance('i2')} button:text-is('Deregister')")
    expect(page.locator("dialog")).to_contain_text("i2.web.prod.discovery.internal.")
    page.click("dialog button:text-is('Cancel')")
    assert node.call("GET", "/v1/services/web.prod/i2")[0] == 200
    page.click(f"{instance('i2')} button:text-is('Deregister')")
    page.click("dialog button:text-is('Deregister')")
    expect(page.locator(instance("i2"))).to_have_count(0)
    assert node.call("GET", "/v1/services/web.prod/i2")[0] == 404


def test_registering_by_the_keyboard_alone(node: RunningNode, seen: Tab) -> None:
    put(node, "db.prod/i1")
    seen.expected = ["400 (Bad Request)"]
    page = seen.open(node.url)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    for _ in range(20):
        if page.evaluate("document.activeElement.id") != "register":
            page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#field-service")).to_be_focused()
    page.keyboard.type("web.prod")
    for text in ("i1", "10.0.0.300", "80", "blue, new"):
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.locator("dialog .error")).to_contain_text("host")
    expect(page.locator("#field-host")).to_be_focused()
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".services .name")).to_have_text(["db.prod", "web.prod"])
    assert node.call("GET", "/v1/services/web.prod/i1")[1]["tags"] == ["blue", "new"]
    # From the search box down the rows, into one, and on its buttons.
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".services .name", has_text="web.prod")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("web.prod")
    expect(page.locator("h1")).to_be_focused()
    expect(page.locator(instance("i1"))).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"{instance('i1')} button.name")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("dialog dl")).to_contain_text("i1.web.prod.discovery.internal.")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    page.locator(f"{instance('i1')} button.name").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(f"{instance('i1')} .state")).to_contain_text("drained")


def test_what_is_read_out_is_what_was_asked_for(node: RunningNode, seen: Tab) -> None:
    """A count changes with each registration: a screen reader would never be silent."""
    put(node, "web.prod/i1")
    for view, count, typed, heard in (
        ("services", ".count", "web", "1 service, 0 instances found"),
        ("service/web.prod", ".count", "i2", "1 instance found"),
    ):
        page = seen.open(node.url, view)
        expect(page.locator(count)).to_contain_text("1 instance")
        put(node, "web.prod/i2", host="10.0.0.2")
        expect(page.locator(count)).to_contain_text("2 instances")
        spoken = page.locator("main [role=status]")
        expect(spoken).to_have_count(1)
        expect(spoken).to_have_text("")
        page.fill("#search", typed)
        expect(spoken).to_have_text(heard)
        node.call("DELETE", "/v1/services/web.prod/i2")


def test_a_port_is_seen_whole_beside_long_tags(node: RunningNode, seen: Tab) -> None:
    tags = [letter * 60 for letter in "abcde"]
    put(node, "web.prod/i1", tags=tags, ports={"metrics": 9100})
    page = seen.open(node.url, "service/web.prod")
    words = page.locator(f"{instance('i1')} .tags > span")
    expect(words).to_have_text(["metrics:9100", tags[0], tags[1], "+3"])
    for number in (0, 3):
        cut = words.nth(number).evaluate("""word => {
          const [own, cell] = [word, word.closest("[role=cell]")].map((each) => each.getBoundingClientRect());
          return word.scrollWidth > word.clientWidth || own.right > cell.right;
        }""")
        assert not cut, number


def test_what_dns_answers_and_why(node: RunningNode, seen: Tab) -> None:
    put(node, "web.prod/i1")
    page = seen.open(node.url, "service/web.prod/dns")
    expect(page.locator("pre.zone")).to_contain_text("SRV 10 100 8080 i1.web.prod.discovery.internal.")
    expect(page.locator(".verdict")).to_contain_text("NOERROR · authoritative")
    expect(page.locator(".why")).to_contain_text("/skydns/internal/discovery/prod/web/i1")
    page.select_option("#type", "A")
    expect(page.locator("pre.zone")).to_contain_text("IN A 10.0.0.1")
    put(node, "web.prod/i2", host="10.0.0.2")
    expect(page.locator("pre.zone")).to_contain_text("IN A 10.0.0.2")
    expect(page.locator(".why")).not_to_contain_text("share, in percent")
    page.select_option("#type", "SRV")
    expect(page.locator("pre.zone")).to_contain_text("SRV 10 50 8080")
    expect(page.locator(".why")).to_contain_text("share, in percent")
    page = seen.open(node.url, "lookup")
    page.fill("#search", "nothing.prod.discovery.internal")
    page.keyboard.press("Enter")
    expect(page.locator(".verdict")).to_contain_text("NXDOMAIN")


def test_nodes_store_activity_and_what_can_not_be_read(node: RunningNode, seen: Tab) -> None:
    put(node, "web.prod/i1")
    page = seen.open(node.url, "nodes")
    expect(page.locator("table.wide").first).to_contain_text("this node")
    expect(page.locator(".figures")).to_contain_text("Revision")
    page = seen.open(node.url, "activity")
    expect(page.locator("figure svg[role=img]").first).to_have_attribute(
        "aria-label", "DNS answers: nothing yet"
    )
    node.ask("web.prod.discovery.internal.", "A")
    expect(page.locator("figure svg[role=img]").first).to_have_attribute(
        "aria-label", re.compile("DNS answers, the last hour. Now")
    )
    page.click("figure:first-of-type summary")
    expect(page.locator("figure:first-of-type tbody tr")).not_to_have_count(0)
    key = "/v2/keys/skydns/internal/discovery/prod/web/i9"
    node.call("PUT", key, b"value=no+JSON", {"Content-Type": "application/x-www-form-urlencoded"})
    expect(page.locator("#banners")).to_contain_text("1 stored record can't be read")
    page.click("#banners a")
    expect(page.locator("tbody")).to_contain_text("/skydns/internal/discovery/prod/web/i9")
    page = seen.open(node.url)
    expect(page.locator(".services .row .state")).to_have_text("1 unreadable")
