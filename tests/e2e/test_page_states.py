"""The web page where something is missing (the node, the store, a token), where there is very much, and for whoever
can't see it well."""

from __future__ import annotations

import signal
import statistics
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import LIMIT, Tab, Theme, tab
from tests.support.cpu import cpu_seconds
from tests.support.etcd import etcd_cluster
from tests.support.node import RunningNode, running_node, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

expect.set_options(timeout=LIMIT * 1000)

BODY = {"host": "10.0.0.1", "port": 8080, "lease_ttl": 0, "tags": ["blue"]}
REFUSED = "Failed to load resource"  # how the browser tells of each call that failed
MANY = 100_000
AT_ONCE = 2_500
SEARCHES = 40
VIEWS = (
    "services",
    "services?q=10.0.0.1",
    "service/web.prod",
    "service/web.prod/dns",
    "service/gone.prod",
    "nodes",
    "activity",
    "lookup?name=web.prod.discovery.internal&type=SRV",
    "unreadable",
    "service/%",
    "constructor",
)


def put(node: RunningNode, name: str, headers: dict[str, str] | None = None) -> None:
    status, answer = node.call("PUT", f"/v1/services/{name}", BODY, headers)
    assert status in (200, 201), answer


def test_a_node_that_is_killed_is_told_and_so_is_that_it_is_back(tmp_path: Path, seen: Tab) -> None:
    seen.expected = [REFUSED]
    with running_node(tmp_path / "store") as node:
        put(node, "web.prod/i1")
        page = seen.open(node.url)
        expect(page.locator(".services .name")).to_have_text("web.prod")
        node.kill()
        expect(page.locator(".banner.bad")).to_contain_text("The node does not answer since ")
        expect(page.locator("#link")).to_have_attribute("data-state", "gone")
        expect(page.locator(".services .name")).to_have_text("web.prod")
        assert seen.ailments() == []
        page.click("#register")
        page.fill("#field-service", "db.prod")
        page.fill("#field-instance", "i1")
        page.fill("#field-host", "10.0.0.2")
        page.keyboard.press("Enter")
        expect(page.locator("dialog .error")).to_contain_text("the node does not answer")
        page.keyboard.press("Escape")
    with running_node(tmp_path / "store", [f"http.listen=['127.0.0.1:{node.http_port}']"]) as again:
        put(again, "new.prod/i1")
        seen.live()
        expect(page.locator(".banner")).to_have_count(0)
        expect(page.locator(".services .name")).to_have_text(["new.prod", "web.prod"])
        put(again, "more.prod/i1")
        expect(page.locator(".services .name")).to_have_text(["more.prod", "new.prod", "web.prod"])


def test_a_node_that_hangs_is_told_though_its_connection_stands(tmp_path: Path, seen: Tab) -> None:
    seen.expected = [REFUSED]
    with running_node(tmp_path / "store") as node:
        page = seen.open(node.url)
        node.process.send_signal(signal.SIGSTOP)
        try:
            expect(page.locator("#link")).to_have_attribute("data-state", "gone")
        finally:
            node.process.send_signal(signal.SIGCONT)
        seen.live()
        put(node, "web.prod/i1")
        expect(page.locator(".services .name")).to_have_text("web.prod")


def test_a_tab_that_nobody_sees_gives_its_connection_back(tmp_path: Path, seen: Tab) -> None:
    """The browser has six to a node: with as many open tabs the next one would wait for ever."""
    show = """hidden => {
      Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with running_node(tmp_path / "store") as node:
        page = seen.open(node.url)
        with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/watch")):
            page.evaluate(show, True)
        put(node, "web.prod/i1")
        with page.expect_request("**/v1/watch"):
            page.evaluate(show, False)
        expect(page.locator(".services .name")).to_have_text("web.prod")
        put(node, "more.prod/i1")
        expect(page.locator(".services .name")).to_have_text(["more.prod", "web.prod"])
        expect(page.locator("#link")).to_have_attribute("data-state", "live")


def test_a_token_is_asked_for_used_and_kept_for_this_tab_alone(
    tmp_path: Path, browser: Browser, seen: Tab
) -> None:
    seen.expected = [REFUSED]
    tokens = "http.tokens=['operate the-operator','read the-reader']"
    with running_node(tmp_path / "store", [tokens]) as node:
        put(node, "web.prod/i1", {"Authorization": "Bearer the-operator"})
        page = seen.page
        page.goto(f"{node.url}/#/service/web.prod")
        page.fill("dialog #token-text", "the-wrong-one")
        page.keyboard.press("Enter")
        expect(page.locator("dialog")).to_contain_text("this token is not known")
        page.fill("dialog #token-text", "the-reader")
        page.keyboard.press("Enter")
        seen.live()
        row = page.locator(".instances .rows .row")
        expect(row).to_contain_text("in DNS")
        expect(page.locator("#token")).to_have_text("Token: in use")
        kept = "() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie, location.href]"
        assert page.evaluate(kept) == [["the-reader"], [], "", f"{node.url}/#/service/web.prod"]
        page.reload()
        seen.live()
        # A reader may not drain: another token is asked for, and then it is done.
        row.locator("button:text-is('Drain')").click()
        expect(page.locator("dialog")).to_contain_text("this needs the role register")
        page.fill("dialog #token-text", "the-operator")
        page.keyboard.press("Enter")
        expect(row).to_contain_text("drained")
        with tab(browser) as other:
            other.page.goto(f"{node.url}/")
            expect(other.page.locator("dialog")).to_contain_text("this needs a token")
            other.page.keyboard.press("Escape")
            expect(other.page.locator(".banner")).to_contain_text("This node asks for a token")
            other.page.click(".banner button")
            expect(other.page.locator("dialog #token-text")).to_be_visible()


def test_the_page_can_reach_nobody_but_its_node(tmp_path: Path, seen: Tab) -> None:
    """Whatever came into it: the browser holds it to the policy."""
    seen.expected = ["Content Security Policy", "TrustedScript"]
    with running_node(tmp_path / "one") as node, running_node(tmp_path / "other") as other:
        page = seen.open(other.url)
        wrote = page.evaluate(
            """url => fetch(url + "/healthz", {mode: "no-cors"}).then(() => "reached", () => "not reached")""",
            node.url,
        )
        assert wrote == "not reached"
        inline = """() => {
          const script = document.createElement("script");
          try { script.textContent = "window.ran = true"; document.head.append(script); } catch { return "refused"; }
          return window.ran ?? "not run";
        }"""
        assert page.evaluate(inline) in ("refused", "not run")


def test_an_address_that_can_not_be_read_shows_all_services_and_says_so(tmp_path: Path, seen: Tab) -> None:
    with running_node(tmp_path / "store") as node:
        put(node, "web.prod/i1")
        page = seen.open(node.url, "service/%")
        expect(page.locator(".services .name")).to_have_text("web.prod")
        expect(page.locator(".banner")).to_contain_text("This address can't be read: #/service/%.")
        put(node, "new.prod/i1")
        expect(page.locator(".services .name")).to_have_text(["new.prod", "web.prod"])
        expect(page.locator(".banner")).to_have_count(1)
        page.click(".services .name >> nth=0")
        expect(page.locator("h1")).to_have_text("new.prod")
        expect(page.locator(".banner")).to_have_count(0)


def test_search_among_a_hundred_thousand(tmp_path: Path, seen: Tab) -> None:
    with running_node(tmp_path / "store", ["http.rate=0"]) as node:
        lease = node.call("POST", "/v1/leases", {"ttl": 86400})[1]["id"]
        for start in range(0, MANY, AT_ONCE):
            operations = [
                {
                    "put": {
                        "service": f"s{number % 1000}.prod",
                        "instance": f"i{number}",
                        "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
                        "port": 8000,
                        "tags": [f"rack{number % 97}"],
                        "lease": lease,
                    }
                }
                for number in range(start, start + AT_ONCE)
            ]
            status, answer = node.call("POST", "/v1/batch", {"operations": operations})
            assert status == 200
            assert all(each["status"] == 201 for each in answer["results"])
        page = seen.open(node.url)
        expect(page.locator(".count")).to_have_text(f"1,000 services, {MANY:,} instances")
        assert page.locator(".services .rows .row").count() < 60, "only what is in sight is there"
        page.evaluate(
            """() => {
              const box = document.getElementById("search");
              window.took = {};
              new MutationObserver(() => { window.took[box.dataset.shown] ??= performance.now() - box.dataset.typed; })
                .observe(box, {attributes: true, attributeFilter: ["data-shown"]});
            }"""
        )
        words = "rack42 i77"
        page.focus("#search")
        took = []
        for length in range(1, len(words) + 1):
            page.keyboard.type(words[length - 1])
            if words[:length].strip() != words[:length]:
                continue
            seen.wait("words => window.took[words] !== undefined", words[:length])
            took.append(page.evaluate("words => window.took[words]", words[:length]))
        print(f"from a keystroke to what it finds: {[f'{each:.0f} ms' for each in took]}")
        assert statistics.median(took) < 1000
        assert max(took) < 10_000
        assert page.locator(".found li").count() < 100, "only the first that are found are drawn"
        # What another program on the machine takes is not in these.
        before = cpu_seconds(node.process.pid)
        for number in range(SEARCHES):
            assert node.call("GET", f"/v1/search?q=rack{number % 97}+i{number}")[0] == 200
        spent = (cpu_seconds(node.process.pid) - before) / SEARCHES
        print(f"one search: {spent * 1000:.1f} ms of the node's processor")
        assert spent < 0.025, "the index is there, and is not made anew"
        wanted = [
            f"i{number}" for number in range(MANY) if number % 97 == 42 and f"{number}".startswith("77")
        ]
        names = page.locator(".found a").all_inner_texts()
        assert sorted(name.partition(".")[0] for name in names) == sorted(wanted)
        page.fill("#search", "s999")
        expect(page.locator(".services .name")).to_have_text("s999.prod")
        page.fill("#search", "")
        expect(page.locator(".count")).to_have_text(f"1,000 services, {MANY:,} instances")
        page.locator(".services .name").first.focus()
        page.keyboard.press("End")
        expect(page.locator(".services .name").last).to_be_focused()
        expect(page.locator(".services .name").last).to_have_text("s999.prod")


def test_both_themes_and_nothing_serious_for_axe_in_any_view(tmp_path: Path, browser: Browser) -> None:
    grounds = {}
    with running_node(tmp_path / "store") as node:
        for filled in (False, True):
            if filled:
                for name in ("web.prod/i1", "web.prod/i2", "api.prod/i1"):
                    put(node, name)
                node.call("POST", "/v1/services/web.prod/i2/drain", {})
                form = {"Content-Type": "application/x-www-form-urlencoded"}
                node.call("PUT", "/v2/keys/skydns/internal/discovery/prod/web/i9", b"value=x", form)
                node.ask("web.prod.discovery.internal.", "A")
            themes: tuple[Theme, ...] = ("light", "dark")
            for theme in themes:
                for width in (1280, 400) if theme == "light" else (1280,):
                    with tab(browser, theme=theme, width=width) as seen:
                        for view in VIEWS if filled else VIEWS[:1]:
                            page = seen.open(node.url, view)
                            seen.wait("() => document.getElementById('node').textContent")
                            assert seen.ailments() == [], (theme, width, view)
                            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                            assert wide <= 0, f"{view} is wider than the window of {width}"
                        page = seen.page
                        grounds[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
                        if filled:
                            page = seen.open(node.url, "service/web.prod")
                            for opener in ("#register", "#token", ".acts .bad", ".instances button.name"):
                                page.locator(opener).first.click()
                                expect(page.locator("dialog")).to_be_visible()
                                assert seen.ailments() == [], (theme, width, opener)
                                page.keyboard.press("Escape")
                                expect(page.locator("dialog")).to_have_count(0)
                        assert seen.faults() == []
    assert grounds["light"] != grounds["dark"]


@pytest.mark.cluster
def test_a_store_that_is_out_of_reach_is_told_and_what_can_not_be_written(tmp_path: Path, seen: Tab) -> None:
    seen.expected = [REFUSED]
    with etcd_cluster(tmp_path / "etcd") as cluster:
        cluster.until_healthy()
        settings = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints!r}"]
        with running_node(tmp_path / "store", settings) as node:
            put(node, "web.prod/i1")
            page = seen.open(node.url, "service/web.prod")
            row = page.locator(".instances .rows .row")
            expect(row).to_contain_text("in DNS")
            (member,) = cluster.members
            member.kill()
            expect(page.locator(".banner.warn")).to_contain_text("The store is out of reach")
            expect(page.locator("#link-text")).to_have_text("Live, stale")
            expect(row).to_contain_text("in DNS")
            row.locator("button:text-is('Drain')").click()
            expect(page.locator("#toasts")).to_contain_text("i1 of web.prod was not drained")
            page.click("nav a[data-view=nodes]")
            expect(page.locator(".trouble")).to_contain_text("nothing can be written")
            assert seen.ailments() == []
            member.start()
            expect(page.locator(".banner")).to_have_count(0)
            wait_for(
                lambda: node.call("POST", "/v1/services/web.prod/i1/drain", {})[0] == 200,
                LIMIT,
                "writes are back",
            )
            page.click("nav a[data-view=services]")
            expect(page.locator(".services .state")).to_have_text("all drained")


@pytest.mark.cluster
def test_a_node_that_is_not_ready_says_so_until_it_is(tmp_path: Path, seen: Tab) -> None:
    seen.expected = [REFUSED]
    with etcd_cluster(tmp_path / "etcd") as cluster:
        cluster.until_healthy()
        (member,) = cluster.members
        member.kill()
        settings = ["store.engine=etcd", f"store.etcd.endpoints={cluster.endpoints!r}"]
        with running_node(tmp_path / "store", settings) as node:
            page = seen.page
            page.goto(f"{node.url}/")
            expect(page.locator(".banner")).to_contain_text("The node is not ready.")
            assert seen.ailments() == []
            member.start()
            seen.live()
            put(node, "web.prod/i1")
            expect(page.locator(".services .name")).to_have_text("web.prod")
            expect(page.locator(".banner")).to_have_count(0)
