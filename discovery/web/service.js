// The view of one service: its instances with their leases' countdown, or what DNS answers for it and why.

import { get, nodeTime, url } from "/page/api.js";
import { confirmDeregister, deregister, drain, register, showInstance, undrain } from "/page/dialogs.js";
import { clock, copyButton, h, many, say, span } from "/page/dom.js";
import { answerPanel } from "/page/lookup.js";
import { Rows } from "/page/rows.js";
import { serviceHref } from "/page/services.js";

const RENEWALS_EVERY = 2000;  // heartbeats make no event: so often the leases in sight are asked for
const WORDS = 3;  // ports and tags in a row; the rest is a number there, and whole in the instance's dialog

export const title = (parameters) => parameters.get("service");

export function mount(content, parameters, { fail }) {
  const service = parameters.get("service");
  const tab = parameters.get("tab");
  const full = h("span", { class: "mono" });
  const copy = h("span", {});
  const count = h("p", { class: "count" });
  const tabs = h("nav", { class: "tabs", "aria-label": "Of this service" },
    h("a", { href: serviceHref(service), "aria-current": tab ? null : "page" }, "Instances"),
    h("a", { href: serviceHref(service, "dns"), "aria-current": tab ? "page" : null }, "DNS answer"));
  content.append(
    h("div", { class: "bar" },
      h("p", { class: "crumb" }, h("a", { href: "#/services" }, "Services"), " /"),
      h("h1", {}, service), h("p", { class: "full" }, full, copy), count,
      h("button", { type: "button", class: "add", onclick: () => register({ service }) }, "Add an instance")),
    tabs);

  function head(answer) {
    const there = answer.services[0];
    const name = there?.name ?? "";
    if (full.textContent !== name) {
      full.textContent = name;
      copy.replaceChildren(...(name ? [copyButton(name, "the DNS name")] : []));
    }
    const words = there ? [many(there.instances, "instance")] : ["No instance"];
    if (there?.drained) words.push(`${there.drained} drained`);
    if (there?.unreadable) words.push(`${there.unreadable} unreadable`);
    say(count, words.join(", "));
  }

  return tab === "dns" ? answerTab(content, service, head, fail) : instancesTab(content, service, parameters, head, fail);
}

function instancesTab(content, service, parameters, head, fail) {
  let words = parameters.get("q") ?? "";
  let typed = 0;
  let filtered = false;
  let last = null;
  const filter = h("input", {
    type: "search", id: "search", value: words, maxlength: 200, autocomplete: "off", spellcheck: "false",
    placeholder: "Filter by id, address, tag, port, meta", "aria-label": "Filter the instances",
  });
  const heard = h("p", { class: "heard", role: "status" });  // for who can't see it: what the filter left, and no more
  const nothing = h("p", { class: "empty", hidden: true });
  const rows = new Rows({
    label: `Instances of ${service}`,
    columns: ["Instance", "Address", "Ports and tags", "Lease", "State", "By hand"],
    kind: "instances",
    key: (item) => item.instance,
    row,
    fetch: async (offset, limit) => {
      last = await get(url("/v1/search", { service, q: words, offset, limit, leases: "true" }));
      return { items: last.found, total: last.matched };
    },
  });
  let busy = false;
  async function refresh() {
    busy = true;
    try {
      if (!(await rows.refresh())) return;
      head(last);
      rows.element.hidden = last.matched === 0;
      if (filtered) say(heard, `${many(last.matched, "instance")} found`);
      filtered = false;
      const gone = last.services.length === 0;
      nothing.hidden = last.matched > 0;
      filter.hidden = gone;
      say(nothing, !gone ? `No instance here has “${words}”.`
        : "This service has no instance now: its leases have expired, or it was deregistered. It appears again by itself when one registers.");
    } catch (error) {
      fail(error);
    } finally {
      busy = false;
    }
  }
  filter.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => { words = filter.value.trim(); filtered = true; scrollTo(0, 0); refresh(); }, 60);
  });
  filter.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); rows.focusFirst(); }
  });
  const renewals = setInterval(() => { if (!busy && !document.hidden && rows.total) refresh(); }, RENEWALS_EVERY);
  content.append(filter, heard, nothing, rows.element);
  refresh();
  return {
    refresh,
    changed: (services) => { if (services.has(service)) refresh(); },
    tick: () => rows.tick(),
    close: () => { clearInterval(renewals); clearTimeout(typed); rows.close(); },
  };
}

function row(first) {
  const name = h("button", { type: "button", class: "name plain" });
  const address = h("span", { class: "mono" });
  const tags = h("span", { class: "tags" });
  const left = h("span", { class: "left" });
  const full = h("span", { class: "gauge", "aria-hidden": "true" }, h("span", {}));
  const state = h("span", { class: "state" });
  const move = h("button", { type: "button", class: "small" });
  const end = h("button", { type: "button", class: "small bad" }, "Deregister");
  const busy = (button, work) => async () => {
    button.disabled = true;
    await work();
    button.disabled = false;
  };
  let item = first;
  name.addEventListener("click", () => showInstance(item));
  move.addEventListener("click", () => busy(move, () => (item.drained_at ? undrain(item) : drain(item)))());
  end.addEventListener("click", async () => { if (await confirmDeregister(item)) await busy(end, () => deregister(item))(); });

  const tick = () => {
    if (item.lease === null) {
      say(left, "permanent");
      full.hidden = true;
      return;
    }
    full.hidden = !item.expires_at;
    if (!item.expires_at) {
      say(left, "not known");
      return;
    }
    const seconds = Math.max(0, (Date.parse(item.expires_at) - nodeTime()) / 1000);
    say(left, seconds > 0 ? `${span(Math.ceil(seconds))} left` : "expiring");
    const share = item.lease_ttl ? Math.min(1, seconds / item.lease_ttl) : 1;
    full.firstChild.style.width = `${(100 * share).toFixed(1)}%`;
    full.firstChild.className = share < 0.34 ? "warn" : "";
  };
  return {
    cells: [name, address, tags, h("span", { class: "lease" }, left, full), state, h("span", { class: "acts" }, move, end)],
    tick,
    update(next) {
      item = next;
      say(name, item.instance);
      name.title = item.name;
      name.setAttribute("aria-label", `${item.instance}: all of it`);
      say(address, (item.host.includes(":") ? `[${item.host}]` : item.host || "text only") + (item.port ? `:${item.port}` : ""));
      const ports = Object.entries(item.ports).map(([port, at]) => `${port}:${at}`);
      const words = [...ports, ...item.tags];
      if (tags.dataset.words !== words.join(" ")) {
        tags.dataset.words = words.join(" ");
        tags.title = words.join(" ");
        const more = words.length - WORDS;
        tags.replaceChildren(...words.slice(0, WORDS).map((word, at) => h("span", { class: at < ports.length ? "tag port" : "tag" }, word)),
          ...(more > 0 ? [h("span", { class: "more" }, `+${more}`)] : []));
      }
      say(state, item.drained_at ? `drained ${clock(item.drained_at)}` : "in DNS");
      state.className = `state ${item.drained_at ? "warn" : "ok"}`;
      say(move, item.drained_at ? "Undrain" : "Drain");
      move.setAttribute("aria-label", `${item.drained_at ? "Undrain" : "Drain"} ${item.instance}`);
      end.setAttribute("aria-label", `Deregister ${item.instance}`);
      tick();
    },
  };
}

function answerTab(content, service, head, fail) {
  const panel = answerPanel({ fail });
  content.append(panel.element);
  let name = "";
  async function refresh() {
    try {
      const answer = await get(url("/v1/search", { service, limit: 1 }));
      head(answer);
      name = answer.services[0]?.name ?? name;
      panel.show(name);
    } catch (error) {
      fail(error);
    }
  }
  refresh();
  return { refresh, changed: (services) => { if (services.has(service)) refresh(); }, close: () => {} };
}
