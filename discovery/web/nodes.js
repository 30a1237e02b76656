// The view of the nodes, the store and its members: who is there, how far behind, how far away, and what ails them.

import { get } from "/page/api.js";
import { bytes, h, number, span } from "/page/dom.js";

export const title = "Nodes";

const LOOK_EVERY = 3000;

export function mount(content, parameters, { fail }) {
  const nodes = h("section", {});
  const store = h("section", {});
  content.append(h("div", { class: "bar" }, h("h1", {}, "Nodes"), h("p", { class: "count" }, "As this node sees them")), nodes, store);
  let busy = false;
  async function refresh() {
    if (busy) return;
    busy = true;
    try {
      // Each on its own: without its store the node still tells of the cluster.
      const [cluster, state] = await Promise.allSettled([get("/v1/cluster"), get("/v1/store")]);
      if (cluster.status === "rejected") throw cluster.reason;
      keepFocus(content, () => {
        nodes.replaceChildren(...nodesOf(cluster.value));
        store.replaceChildren(...storeOf(cluster.value.store, state));
      });
    } catch (error) {
      fail(error);
    } finally {
      busy = false;
    }
  }
  const timer = setInterval(() => { if (!document.hidden) refresh(); }, LOOK_EVERY);
  refresh();
  return { refresh, changed: () => {}, close: () => clearInterval(timer) };
}

/** Tables are made anew; who stood on a link, or in a region, still does. */
function keepFocus(within, change) {
  const here = document.activeElement;
  const id = within.contains(here) ? here.dataset.stays : undefined;
  change();
  if (id) within.querySelector(`[data-stays="${CSS.escape(id)}"]`)?.focus();
}

function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, "data-stays": caption }, h("table", { class: "wide" },
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows)));
}

const unknown = () => h("span", { class: "soft" }, "not known");
const ms = (value) => (value === null ? unknown() : `${value.toFixed(value < 10 ? 2 : 0)} ms`);
const offset = (value) => (value === null ? unknown() : `${value > 0 ? "+" : ""}${value.toFixed(Math.abs(value) < 10 ? 1 : 0)} ms`);
const lag = (value) => (value === null ? unknown() : value === 0 ? "none" : number(value));

function nodesOf(cluster) {
  const rows = cluster.nodes.map((node) => {
    const state = node.error ? ["bad", node.error] : node.stale ? ["warn", "stale"] : node.ready === false ? ["bad", "not ready"]
      : node.ready === null ? ["warn", "not asked yet"] : ["ok", "well"];
    const away = node.this ? ["here", "here"] : [ms(node.round_trip_ms), offset(node.clock_offset_ms)];
    return h("tr", {},
      h("th", { scope: "row" }, node.name, node.this ? h("span", { class: "tag" }, "this node") : null),
      h("td", {}, h("span", { class: `state ${state[0]}` }, state[1])),
      h("td", { class: "num" }, node.revision === null ? unknown() : number(node.revision)),
      h("td", { class: "num" }, lag(node.lag)),
      h("td", { class: "num" }, away[0]), h("td", { class: "num" }, away[1]),
      h("td", { class: "mono" }, node.http.map((url) => h("a", { href: url, "data-stays": url }, url.replace(/^https?:\/\//, "")))),
      h("td", { class: "mono" }, node.addresses.join(" ")),
      h("td", {}, node.version),
      h("td", {}, h("time", { datetime: node.started_at }, span((Date.now() - Date.parse(node.started_at)) / 1000))));
  });
  return [table("Nodes", ["Node", "State", "Revision", "Lag", "Round trip", "Clock", "HTTP", "Addresses", "Version", "Up"], rows)];
}

function figure(name, value, kind = "") {
  return h("div", { class: "figure" }, h("dt", {}, name), h("dd", { class: kind }, value));
}

function storeOf(store, state) {
  const parts = [h("h2", {}, `Store (${store.engine})`)];
  const errors = [...store.errors];
  if (state.status === "rejected" && !errors.length) errors.push(state.reason.message);
  if (!store.reachable || errors.length) {
    parts.push(h("div", { class: "trouble", role: "alert" },
      h("strong", {}, store.reachable ? "The store says that something is wrong." : "The store can't be reached, or has no quorum: nothing can be written. DNS and reads go on from what this node knows."),
      h("ul", {}, errors.map((error) => h("li", {}, error)))));
  }
  const figures = [figure("Reachable", store.reachable ? "yes" : "no", store.reachable ? "" : "bad")];
  if (state.status === "fulfilled") {
    const held = state.value;
    figures.push(
      figure("Revision", number(held.revision)), figure("History from", number(held.compact_revision)),
      figure("Leases", number(held.leases)), figure("Size", bytes(held.size)), figure("In use", bytes(held.size_in_use)),
      figure("Stalls", number(held.stalls)), figure("Leases held", number(held.leases_held)), figure("Version", held.version));
  }
  parts.push(h("dl", { class: "figures" }, figures));
  if (store.members.length) {
    parts.push(table("Members of the store's cluster", ["Member", "State", "Role", "Revision", "Size", "In use", "Round trip", "URL", "Version"],
      store.members.map((member) => h("tr", {},
        h("th", { scope: "row" }, member.name || member.id),
        h("td", {}, h("span", { class: `state ${member.healthy ? "ok" : "bad"}` }, member.error || "well")),
        h("td", {}, member.role || unknown()), h("td", { class: "num" }, number(member.revision)),
        h("td", { class: "num" }, bytes(member.size)), h("td", { class: "num" }, bytes(member.size_in_use)),
        h("td", { class: "num" }, ms(member.round_trip_ms)),
        h("td", { class: "mono" }, member.url), h("td", {}, member.version)))));
  } else {
    parts.push(h("p", { class: "soft" }, store.engine === "embedded"
      ? "The store is embedded in this node: it has no members of its own. deploy/one-to-three.md tells how one node becomes three."
      : "None of the store's members can be asked now."));
  }
  return parts;
}
