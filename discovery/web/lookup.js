// What DNS answers for a name, and why: the panel of a service, and a view to ask for any name.

import { get, url } from "/page/api.js";
import { h, say, span } from "/page/dom.js";

const TYPES = ["SRV", "A", "AAAA", "TXT", "CNAME", "MX", "SOA", "NS", "PTR", "ANY"];
const SRV = /\sSRV\s/;

export const title = "Lookup";

export function answerPanel({ fail }) {
  let name = "";
  const picked = h("select", { id: "type" }, TYPES.map((type) => h("option", {}, type)));
  const verdict = h("p", { class: "verdict", role: "status" });
  const answer = h("pre", { class: "zone", tabindex: "0", "aria-label": "The answer as a master file writes it" });
  const why = h("div", { class: "why" });
  const element = h("section", { class: "panel" },
    h("p", {}, h("label", { for: "type" }, "Record type "), picked, " ", verdict), answer, h("h2", {}, "Why"), why);

  async function ask() {
    element.classList.toggle("none", !name);
    if (!name) {
      say(verdict, "Nothing is registered under this name now.");
      answer.textContent = "";
      why.replaceChildren();
      return;
    }
    try {
      show(await get(url("/v1/lookup", { name, type: picked.value })));
    } catch (error) {
      if (error.status === 400) {
        say(verdict, error.message);
        answer.textContent = "";
        why.replaceChildren();
      } else fail(error);
    }
  }

  function show(told) {
    const words = [told.rcode ?? "asked of other servers"];
    if (told.authoritative) words.push("authoritative");
    words.push(told.cached ? "from the cache" : "not cached now");
    if (told.zone) words.push(`zone ${told.zone}`);
    say(verdict, words.join(" · "));
    const parts = [["answer", told.answer], ["authority", told.authority], ["additional", told.additional]];
    const lines = parts.flatMap(([part, records]) => (records.length ? [`; ${part}`, ...records] : []));
    answer.textContent = lines.map((line) => line.trimEnd()).join("\n") || "; no records";
    const rows = told.services.map((each) => h("tr", { class: each.used ? "" : "unused" },
      h("td", { class: "mono" }, each.key),
      h("td", {}, each.used ? "gives records" : (each.reason ?? "gives none")),
      h("td", {}, `${span(each.ttl)}, ${originOf(each.ttl_from)}`)));
    const broken = told.unreadable.map((each) => h("tr", { class: "broken" },
      h("td", { class: "mono" }, each.key), h("td", { colspan: "2" }, `unreadable: ${each.reason}`)));
    const children = [];
    const remarks = [...told.remarks];
    if (told.answer.filter((record) => SRV.test(record)).length > 1) {
      remarks.push("A weight in SRV is the instance's share, in percent, among those of its priority.");
    }
    if (remarks.length) children.push(h("ul", {}, remarks.map((remark) => h("li", {}, remark))));
    if (rows.length || broken.length) {
      children.push(h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Stored keys" }, h("table", {},
        h("caption", {}, "Stored keys that were looked at"),
        h("thead", {}, h("tr", {}, ["Key", "What it gives", "TTL"].map((head) => h("th", { scope: "col" }, head)))),
        h("tbody", {}, rows, broken))));
    }
    if (!children.length) children.push(h("p", { class: "soft" }, "No stored key stands behind this answer."));
    why.replaceChildren(...children);
  }

  picked.addEventListener("change", ask);
  return { element, show: (next) => { name = next; return ask(); }, picked };
}

const originOf = (origin) => `from the ${String(origin).replaceAll("_", " ")}`;

export function mount(content, parameters, { fail }) {
  const panel = answerPanel({ fail });
  const box = h("input", {
    id: "search", type: "text", value: parameters.get("name") ?? "", maxlength: 255, autocomplete: "off", spellcheck: "false",
    placeholder: "A whole name, such as web.prod.discovery.internal", "aria-label": "Name to look up",
  });
  const form = h("form", { class: "ask" }, box, h("button", { type: "submit" }, "Look up"));
  if (TYPES.includes(parameters.get("type"))) panel.picked.value = parameters.get("type");
  else panel.picked.value = "A";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    history.replaceState(null, "", `#/lookup?name=${encodeURIComponent(box.value.trim())}&type=${panel.picked.value}`);
    refresh();
  });
  panel.element.hidden = !box.value;
  const refresh = () => {
    const name = box.value.trim();
    panel.element.hidden = !name;
    return name ? panel.show(name) : undefined;
  };
  content.append(h("div", { class: "bar" }, h("h1", {}, "Lookup"), h("p", { class: "count" }, "What this node's DNS answers, and why")), form, panel.element);
  refresh();
  return { refresh, changed: refresh, close: () => {} };
}
