// The view of the stored keys that are no services: which, and why nothing of them is in DNS.

import { get } from "/page/api.js";
import { h, many, say } from "/page/dom.js";

export const title = "Unreadable records";

export function mount(content, parameters, { fail }) {
  const count = h("p", { class: "count" });
  const body = h("tbody", {});
  content.append(
    h("div", { class: "bar" }, h("h1", {}, "Unreadable records"), count),
    h("p", {}, "Each is left out of DNS, and spoils nothing beside it. Register the instance anew, or delete the key with the program that wrote it."),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Unreadable records" }, h("table", { class: "wide" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col" }, "Why"))), body)));
  async function refresh() {
    try {
      const { unreadable } = await get("/v1/lookup?name=.");
      say(count, unreadable.length ? many(unreadable.length, "record") : "All that is stored can be read");
      body.replaceChildren(...unreadable.map((each) => h("tr", {}, h("th", { scope: "row", class: "mono" }, each.key), h("td", {}, each.reason))));
    } catch (error) {
      fail(error);
    }
  }
  refresh();
  return { refresh, changed: refresh, close: () => {} };
}
