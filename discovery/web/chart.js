// A chart over time, drawn as SVG: lines or stacked areas, a readout under the pointer or the arrow keys, and the same
// figures as a table for those who do not see it.

import { clock, h, say, svg } from "/page/dom.js";

const WIDTH = 600;
const HEIGHT = 150;
const LEFT = 46;
const BOTTOM = 20;
const TOP = 8;
const SPANS = [5, 15, 30, 60];  // minutes: the least that shows all there is
const TABLE_ROWS = 12;

export function short(value) {
  if (value === null || value === undefined) return "none";
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)}k`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 100 || Number.isInteger(value)) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** The next of 1, 2, 5 times a power of ten. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.9999) * power;
}

export class Chart {
  /** `series`: [{key, name, kind}], `kind` the class that colours it; `unit` after every figure. */
  constructor({ title, unit, series, stacked }) {
    Object.assign(this, { title, unit, series, stacked, times: [], values: {} });
    this.plot = svg("g");
    this.cursor = svg("line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.picture = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0", class: "chart", "aria-label": title,
    }, this.plot, this.cursor);
    this.when = h("span", { class: "when" });
    this.legend = h("ul", { class: "legend" });
    this.figures = this.series.map(({ name, kind }) => {
      const value = h("b", {});
      this.legend.append(h("li", {}, h("span", { class: `swatch ${kind}` }), `${name} `, value));
      return value;
    });
    this.rows = h("tbody", {});
    const details = h("details", {}, h("summary", {}, "As a table"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` }, h("table", {},
        h("caption", {}, `${title} (${unit}), means up to each time`),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Until"), this.series.map(({ name }) => h("th", { scope: "col" }, name)))),
        this.rows)));
    this.element = h("figure", {}, h("figcaption", {}, h("h2", {}, title), h("span", { class: "soft" }, unit), this.when), this.picture, this.legend, details);
    this.at = null;
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.pick(null));
    this.picture.addEventListener("blur", () => this.pick(null));
    this.picture.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.times.length) return;
      event.preventDefault();
      this.pick(Math.min(this.times.length - 1, Math.max(0, (this.at ?? this.times.length) + step)));
    });
  }

  /** `times` in ms, ascending; `values`: by key, a number or null each. `end`: ms, the right edge. */
  draw(times, values, end) {
    Object.assign(this, { times, values, end });
    const minutes = (end - (times[0] ?? end)) / 60e3;
    this.span = 60e3 * (SPANS.find((span) => span >= minutes) ?? SPANS.at(-1));
    const tops = times.map((_, at) => {
      const there = this.series.map(({ key }) => values[key][at] ?? 0);
      return this.stacked ? there.reduce((sum, each) => sum + each, 0) : Math.max(...there);
    });
    this.top = ceiling(Math.max(0, ...tops));
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = this.y(share * this.top);
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }),
        svg("text", { class: "tick", x: LEFT - 6, y: y + 3.5, "text-anchor": "end" }, short(share * this.top)));
    }
    for (let quarter = 0; quarter <= 4; quarter += 1) {
      const time = end - (this.span * quarter) / 4;
      const said = clock(time).slice(0, this.span > 15 * 60e3 ? 5 : 8);
      parts.push(svg("text", { class: "tick", x: this.x(time), y: HEIGHT - 5, "text-anchor": ["end", "middle", "middle", "middle", "start"][quarter] }, said));
    }
    const base = times.map(() => 0);
    for (const { key, kind } of this.series) {
      const line = values[key].map((value, at) => (value === null ? null : this.stacked ? base[at] + value : value));
      if (this.stacked) {
        parts.push(svg("path", { class: `area ${kind}`, d: this.area(line, base) }));
        line.forEach((value, at) => { base[at] = value; });
      } else parts.push(svg("path", { class: `line ${kind}`, d: this.path(line) }));
    }
    this.plot.replaceChildren(...parts);
    this.fill();
    this.pick(this.at === null ? null : Math.min(this.at, times.length - 1));
  }

  x(time) { return LEFT + (WIDTH - LEFT) * (1 - (this.end - time) / this.span); }

  y(value) { return TOP + (HEIGHT - BOTTOM - TOP) * (1 - value / this.top); }

  path(line) {
    let pen = "M";
    let path = "";
    line.forEach((value, at) => {
      if (value === null) pen = "M";
      else {
        const alone = pen === "M" && (line[at + 1] ?? null) === null;  // a dot
        path += `${pen}${this.x(this.times[at]).toFixed(1)} ${this.y(value).toFixed(1)}${alone ? "h0" : ""}`;
        pen = "L";
      }
    });
    return path;
  }

  area(upper, lower) {
    if (!upper.length) return "";
    const there = (line) => line.map((value, at) => `${this.x(this.times[at]).toFixed(1)} ${this.y(value).toFixed(1)}`);
    return `M${there(upper).join("L")}L${there(lower).reverse().join("L")}Z`;
  }

  fill() {
    const last = this.times.length - 1;
    const said = this.series.map(({ key, name }) => `${name} ${short(this.values[key][last])}`);
    this.picture.setAttribute("aria-label", last < 0 ? `${this.title}: nothing yet` : `${this.title}, the last hour. Now, ${this.unit}: ${said.join(", ")}. Left and right arrow tell of other times.`);
    const step = Math.max(1, Math.ceil(this.times.length / TABLE_ROWS));
    const rows = [];
    for (let end = this.times.length; end > 0; end -= step) {
      const from = Math.max(0, end - step);
      const means = this.series.map(({ key }) => {
        const there = this.values[key].slice(from, end).filter((value) => value !== null);
        return there.length ? there.reduce((sum, each) => sum + each, 0) / there.length : null;
      });
      rows.push(h("tr", {}, h("th", { scope: "row" }, clock(this.times[end - 1])), means.map((mean) => h("td", { class: "num" }, short(mean)))));
    }
    this.rows.replaceChildren(...rows);
  }

  point(event) {
    if (!this.times.length) return;
    const box = this.picture.getBoundingClientRect();
    const time = this.end - this.span * (1 - ((event.clientX - box.left) * (WIDTH / box.width) - LEFT) / (WIDTH - LEFT));
    let best = 0;
    this.times.forEach((each, at) => { if (Math.abs(each - time) < Math.abs(this.times[best] - time)) best = at; });
    this.pick(best);
  }

  pick(at) {
    this.at = at;
    const shown = at ?? this.times.length - 1;
    this.cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
    if (at !== null) {
      this.cursor.setAttribute("x1", this.x(this.times[at]));
      this.cursor.setAttribute("x2", this.x(this.times[at]));
    }
    say(this.when, at === null ? "" : clock(this.times[at]));
    this.series.forEach(({ key }, position) => say(this.figures[position], shown < 0 ? "" : short(this.values[key][shown])));
  }
}
