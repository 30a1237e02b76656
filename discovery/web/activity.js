// The view of what the node did in its last hour, which it kept itself: rates and latencies, drawn.

import { get, nodeTime } from "/page/api.js";
import { Chart } from "/page/chart.js";
import { h, say } from "/page/dom.js";

export const title = "Activity";

const CHARTS = [
  { title: "DNS answers", unit: "a second, by response code", stacked: true, series: [
    { key: "noerror", name: "NOERROR", kind: "c1" }, { key: "nxdomain", name: "NXDOMAIN", kind: "c2" },
    { key: "servfail", name: "SERVFAIL", kind: "c4" }, { key: "refused", name: "REFUSED", kind: "c3" },
    { key: "other_rcodes", name: "others", kind: "c5" }] },
  { title: "DNS cache", unit: "answers a second", stacked: true, series: [
    { key: "cache_hits", name: "from the cache", kind: "c1" }, { key: "cache_misses", name: "made anew", kind: "c2" },
    { key: "forwarded", name: "of other servers", kind: "c5" }] },
  { title: "DNS latency", unit: "milliseconds, of a sample", series: [
    { key: "dns_p50", name: "median", kind: "c1" }, { key: "dns_p99", name: "99th percentile", kind: "c4" }] },
  { title: "HTTP latency", unit: "milliseconds, streams and waits too", series: [
    { key: "http_p50", name: "median", kind: "c1" }, { key: "http_p99", name: "99th percentile", kind: "c4" }] },
  { title: "Changes", unit: "a second", series: [
    { key: "changes", name: "revisions", kind: "c5" }, { key: "registrations", name: "registrations", kind: "c1" },
    { key: "deregistrations", name: "deregistrations", kind: "c2" }, { key: "expiries", name: "expiries", kind: "c4" }] },
  { title: "Heartbeats", unit: "leases renewed a second", series: [{ key: "heartbeats", name: "heartbeats", kind: "c1" }] },
  { title: "HTTP", unit: "requests a second", series: [
    { key: "http_requests", name: "all", kind: "c1" }, { key: "http_errors", name: "errors (5xx)", kind: "c4" }] },
];

export function mount(content, parameters, { fail }) {
  const note = h("p", { class: "count", role: "status" });
  const grid = h("div", { class: "charts" });
  let charts = null;
  content.append(h("div", { class: "bar" }, h("h1", {}, "Activity"), note), grid);

  async function refresh() {
    try {
      const told = await get("/v1/history");
      const times = told.until.map((text) => Date.parse(text));
      const values = { ...told.rates };
      for (const [key, seconds] of Object.entries(told.latency ?? {})) values[key] = seconds.map((each) => (each === null ? null : each * 1000));
      if (charts === null) {  // what this node does not count, is not drawn
        charts = CHARTS.map((each) => ({ ...each, series: each.series.filter(({ key }) => key in values) }))
          .filter((each) => each.series.length).map((each) => new Chart(each));
        grid.append(...charts.map((chart) => chart.element));
      }
      say(note, times.length ? `The last hour of this node, a sample every ${told.every} s`
        : `This node has just begun to count: the first figures are there within ${told.every} s`);
      for (const chart of charts) chart.draw(times, values, Math.max(nodeTime(), times.at(-1) ?? 0));
    } catch (error) {
      fail(error);
    }
  }

  const timer = setInterval(() => { if (!document.hidden) refresh(); }, 5000);
  refresh();
  return { refresh, changed: () => {}, close: () => clearInterval(timer) };
}
