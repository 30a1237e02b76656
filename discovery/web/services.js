// The view of all services, and the search over them and their instances.

import { get, hasToken, url } from "/page/api.js";
import { copyButton, h, many, number, say } from "/page/dom.js";
import { Rows } from "/page/rows.js";

export const title = "Services";

const SEARCH_PAUSE = 30;  // ms after a keystroke
const FOUND = 50;

export const serviceHref = (service, tab = "") => `#/service/${encodeURIComponent(service)}${tab && `/${tab}`}`;

export function mount(content, parameters, { fail }) {
  let words = parameters.get("q") ?? "";
  let typed = 0;
  let searched = false;
  const count = h("p", { class: "count" });
  const heard = h("p", { class: "heard", role: "status" });  // for who can't see it: what a search found, and no more
  const box = h("input", {
    type: "search", id: "search", value: words, maxlength: 200, autocomplete: "off", spellcheck: "false",
    placeholder: "Search services, instances, addresses, tags", "aria-label": "Search services, instances, addresses, tags",
  });
  const foundHead = h("h2", { id: "found-head" });
  const foundList = h("ul", { class: "found", "aria-labelledby": "found-head" });
  const found = h("section", { hidden: true }, foundHead, foundList);
  const empty = h("section", { class: "empty", hidden: true });
  let last = null;
  let asking = new AbortController();

  const rows = new Rows({
    label: "Services",
    columns: ["Service", "Instances", "Health", "State"],
    kind: "services",
    key: (item) => item.service,
    row,
    fetch: async (offset, limit) => {
      const answer = await get(url("/v1/search", { q: words, offset, limit: words ? Math.min(limit, 100) : limit }), { signal: asking.signal });
      last = answer;
      return { items: answer.services, total: answer.total };
    },
  });

  async function refresh() {
    const began = performance.now();
    try {
      if (!(await rows.refresh())) return;
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
      return;
    }
    const none = last.registered === 0 && last.unreadable === 0;
    empty.hidden = !none;
    if (none && !empty.firstChild) empty.append(...welcome());
    rows.element.hidden = last.total === 0;
    box.hidden = none;
    say(count, none ? "" : summary(last, words));
    if (searched) say(heard, count.textContent);
    searched = false;
    showFound(last);
    box.dataset.shown = words;  // what is seen now are the results of these words
    box.dataset.ms = (performance.now() - began).toFixed(1);
  }

  function showFound(answer) {
    found.hidden = !words || answer.found.length === 0;
    const many = answer.more ? `The first ${answer.found.slice(0, FOUND).length} instances` : `Instances`;
    say(foundHead, many);
    foundList.replaceChildren(...answer.found.slice(0, FOUND).map((instance) => h("li", {},
      h("a", { href: `${serviceHref(instance.service)}?q=${encodeURIComponent(instance.instance)}` }, instance.name.replace(/\.$/, "")),
      h("span", { class: "mono" }, instance.host, instance.port ? `:${instance.port}` : ""),
      h("span", { class: "tags" }, instance.tags.map((tag) => h("span", { class: "tag" }, tag))),
      instance.drained_at ? h("span", { class: "state warn" }, "drained") : null,
    )));
  }

  box.addEventListener("input", () => {
    clearTimeout(typed);
    box.dataset.typed = performance.now();
    typed = setTimeout(() => {
      words = box.value.trim();
      searched = true;
      asking.abort();
      asking = new AbortController();
      history.replaceState(null, "", words ? `#/services?q=${encodeURIComponent(words)}` : "#/services");
      scrollTo(0, 0);
      refresh();
    }, SEARCH_PAUSE);
  });
  // The first search of all makes the node read its instances' words: before somebody has typed one, if it can be.
  box.addEventListener("focus", () => { get(url("/v1/search", { q: "_", limit: 1 })).catch(() => {}); }, { once: true });
  box.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      if (rows.total) rows.focusFirst();
      else foundList.querySelector("a")?.focus();
    } else if (event.key === "Escape" && box.value) {
      event.preventDefault();
      box.value = "";
      box.dispatchEvent(new Event("input"));
    }
  });

  content.append(
    h("div", { class: "bar" }, h("h1", {}, "Services"), count, heard, box),
    empty, rows.element, found,
  );
  refresh();
  return { refresh, changed: refresh, close: () => { asking.abort(); rows.close(); clearTimeout(typed); } };
}

function summary(answer, words) {
  if (words) {
    const services = many(answer.total, "service");
    const instances = answer.more ? `more than ${many(answer.matched, "instance")}` : many(answer.matched, "instance");
    return answer.total + answer.matched ? `${services}, ${instances} found` : `Nothing has “${words}” in its name, address or tags`;
  }
  return `${many(answer.total, "service")}, ${many(answer.registered, "instance")}`;
}

function row() {
  const name = h("a", { class: "name" });
  const count = h("span", { class: "num" });
  const well = h("span", { class: "part ok" });
  const away = h("span", { class: "part warn" });
  const broken = h("span", { class: "part bad" });
  const bar = h("span", { class: "health", "aria-hidden": "true" }, well, away, broken);
  const state = h("span", { class: "state" });
  return {
    cells: [name, count, bar, state],
    update(item) {
      const all = item.instances + item.unreadable;
      name.href = serviceHref(item.service);
      name.title = item.name;
      say(name, item.service);
      say(count, number(item.instances));
      const parts = [[well, item.instances - item.drained], [away, item.drained], [broken, item.unreadable]];
      for (const [part, share] of parts) part.style.flexGrow = all ? share / all : 0;
      const said = stateOf(item);
      say(state, said.text);
      state.className = `state ${said.kind}`;
    },
  };
}

export function stateOf(item) {
  const troubles = [];
  if (item.drained) troubles.push(item.drained === item.instances ? "all drained" : `${number(item.drained)} drained`);
  if (item.unreadable) troubles.push(`${number(item.unreadable)} unreadable`);
  if (!troubles.length) return { kind: "ok", text: "all in DNS" };
  const bad = item.unreadable || item.drained === item.instances;
  return { kind: bad ? "bad" : "warn", text: troubles.join(", ") };
}

/** What a node without anything says: how the first service is registered. */
function welcome() {
  const header = hasToken() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const line = `curl -X PUT ${location.origin}/v1/services/web.prod/i1${header} -d '{"host": "10.0.0.1", "port": 80}'`;
  return [
    h("h2", {}, "Nothing is registered here yet"),
    h("p", {}, "A service is there as soon as its first instance is. It appears here, and in DNS, the moment this is done:"),
    h("div", { class: "copied" }, h("pre", { tabindex: "0", "aria-label": "Command" }, line), copyButton(line, "the command")),
    h("p", { class: "soft" }, "It has a lease of 30 seconds: without a heartbeat it vanishes again. With “lease_ttl”: 0 it stays. ",
      "The button Register above does the same by hand."),
  ];
}

