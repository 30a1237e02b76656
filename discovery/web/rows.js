// A table of any length: only the rows in sight are elements, and only the pages in sight are asked for.
//
// It scrolls with the window. Rows keep their element as long as they are in sight, so focus stays where it is; arrow
// keys move from row to row, and what screen readers are told (aria-rowcount, aria-rowindex) is of the whole table.

import { h } from "/page/dom.js";

const PAGE = 100;
const BEYOND = 8;  // rows above and below what is seen

export class Rows {
  /** `columns`: heads; `fetch(offset, limit)`: {items, total}; `key(item)`; `row(item)`: {cells, update(item), tick?}. */
  constructor({ label, columns, kind, fetch, key, row }) {
    this.fetch = fetch;
    this.key = key;
    this.row = row;
    this.total = 0;
    this.items = new Map();   // by index
    this.shown = new Map();   // by index: {element, made, key, item}
    this.asked = new Map();   // pages on the way, by number
    this.turn = 0;
    this.toFocus = -1;
    this.body = h("div", { role: "rowgroup", class: "rows" });
    const heads = columns.map((name) => h("span", { role: "columnheader" }, name));
    this.head = h("div", { role: "rowgroup" }, h("div", { role: "row", class: "row heads", "aria-rowindex": "1" }, heads));
    this.element = h("div", { role: "table", "aria-label": label, class: `table ${kind}` }, this.head, this.body);
    this.onScroll = () => { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.draw(); }); };
    addEventListener("scroll", this.onScroll, { passive: true });
    addEventListener("resize", this.onScroll, { passive: true });
    this.body.addEventListener("keydown", (event) => this.move(event));
  }

  close() {
    removeEventListener("scroll", this.onScroll);
    removeEventListener("resize", this.onScroll);
    this.closed = true;
  }

  get height() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 40;
  }

  /** First and last index in sight, with some beyond. */
  sight() {
    const height = this.height;
    const top = -this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - BEYOND);
    const last = Math.min(this.total - 1, Math.ceil((top + innerHeight) / height) + BEYOND);
    return [first, last];
  }

  /** Asks anew for what is in sight, and shows it; the rest is asked for when it comes into sight. */
  async refresh() {
    const turn = (this.turn += 1);
    const [first, last] = this.sight();
    const from = Math.floor(first / PAGE);
    const to = Math.max(from, Math.floor(Math.max(0, last) / PAGE));
    const pages = [];
    for (let page = from; page <= to; page += 1) pages.push(this.fetch(page * PAGE, PAGE));
    const answers = await Promise.all(pages);
    if (turn !== this.turn || this.closed) return false;
    this.items.clear();
    this.asked.clear();
    this.total = answers[0].total;
    answers.forEach((answer, number) => this.keep((from + number) * PAGE, answer.items));
    this.draw();
    return true;
  }

  keep(offset, items) {
    items.forEach((item, position) => this.items.set(offset + position, item));
  }

  async want(page) {
    if (this.asked.has(page)) return;
    const turn = this.turn;
    this.asked.set(page, true);
    try {
      const answer = await this.fetch(page * PAGE, PAGE);
      if (turn !== this.turn || this.closed) return;
      this.keep(page * PAGE, answer.items);
      this.draw();
    } catch {
      this.asked.delete(page);  // the state of the node is told elsewhere; the next refresh asks again
    }
  }

  draw() {
    if (this.closed) return;
    const height = this.height;
    this.body.style.height = `${this.total * height}px`;
    this.element.setAttribute("aria-rowcount", this.total + 1);
    const [first, last] = this.sight();
    const focused = this.focusedIndex();
    for (const [index, there] of this.shown) {
      const item = this.items.get(index);
      const out = index < first || index > last;
      if (index >= this.total || (out && index !== focused) || (item && this.key(item) !== there.key)) {
        there.element.remove();
        this.shown.delete(index);
      }
    }
    for (let index = first; index <= last; index += 1) {
      const item = this.items.get(index);
      if (item === undefined) {
        this.want(Math.floor(index / PAGE));
        continue;
      }
      const there = this.shown.get(index);
      if (there === undefined) this.shown.set(index, this.make(index, item));
      else if (there.item !== item) {
        there.item = item;
        there.made.update(item);
      }
      this.shown.get(index).element.style.transform = `translateY(${index * height}px)`;
    }
    this.inOrder();
    this.giveFocus();
  }

  make(index, item) {
    const made = this.row(item);
    const cells = made.cells.map((cell) => h("span", { role: "cell" }, cell));
    const element = h("div", { role: "row", class: "row", "aria-rowindex": index + 2 }, cells);
    made.update(item);
    return { element, made, key: this.key(item), item };
  }

  /** In the document as on the screen, for the keyboard and for screen readers; what stands right is not moved. */
  inOrder() {
    let at = this.body.firstChild;
    for (const [, there] of [...this.shown].sort(([a], [b]) => a - b)) {
      if (there.element === at) at = at.nextSibling;
      else this.body.insertBefore(there.element, at);
    }
  }

  tick() {
    for (const there of this.shown.values()) there.made.tick?.(there.item);
  }

  focusedIndex() {
    const row = document.activeElement?.closest?.(".row");
    for (const [index, there] of this.shown) if (there.element === row) return index;
    return -1;
  }

  move(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 15, PageUp: -15, Home: -Infinity, End: Infinity }[event.key];
    const index = this.focusedIndex();
    if (step === undefined || index < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.focus(Math.min(this.total - 1, Math.max(0, index + step)));
  }

  /** The row's first link or button, once it is there. */
  focus(index) {
    const height = this.height;
    const top = this.body.getBoundingClientRect().top + index * height;
    if (top < 130 || top > innerHeight - 2 * height) scrollBy(0, top - innerHeight / 2);
    this.toFocus = index;
    this.draw();
  }

  /** The row that is to have the focus gets it when it is there: it may have to be asked for first. */
  giveFocus() {
    const there = this.shown.get(this.toFocus);
    if (!there) return;
    this.toFocus = -1;
    there.element.querySelector("a, button")?.focus({ preventScroll: true });
  }

  focusFirst() {
    if (this.total) this.focus(0);
  }
}
