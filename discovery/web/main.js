// The page's frame: which view is shown, the state of the node above it, and the keys that work everywhere.

import { hasToken, told } from "/page/api.js";
import { askToken, register, toast } from "/page/dialogs.js";
import { clock, h, many, number, say } from "/page/dom.js";
import { follow, live, overview, state } from "/page/live.js";
import * as activity from "/page/activity.js";
import * as lookup from "/page/lookup.js";
import * as nodes from "/page/nodes.js";
import * as service from "/page/service.js";
import * as services from "/page/services.js";
import * as unreadable from "/page/unreadable.js";

const VIEWS = { services, service, nodes, activity, lookup, unreadable };
const REFRESH_PAUSE = 100;  // ms between two refreshes, and four times as long as the last one took
const ALL_EVERY = 10000;    // what no event tells, such as an instance that expired while it was drained

const content = document.getElementById("content");
const banners = document.getElementById("banners");
let view = null;
let stale = null;
let trouble = "";
let astray = "";  // an address that says nothing the page can read

// ------------------------------------------------------------ views

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;  // such as a lone %
  }
}

function route() {
  astray = "";
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, first, tab] = path.split("/");
  const parameters = new URLSearchParams(query);
  if (name === "service" && first) {
    const service = decoded(first);
    if (service === null) {
      astray = location.hash;
      return ["services", new URLSearchParams()];
    }
    parameters.set("service", service);
    if (tab) parameters.set("tab", tab);
  }
  return [Object.hasOwn(VIEWS, name) && (name !== "service" || first) ? name : "services", parameters];
}

function show() {
  const [name, parameters] = route();
  view?.close();
  trouble = "";
  content.replaceChildren();
  content.dataset.view = name;
  for (const link of document.querySelectorAll("header nav a")) {
    const here = link.dataset.view === name || (name === "service" && link.dataset.view === "services");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = VIEWS[name].title;
  document.title = `${typeof title === "function" ? title(parameters) : title} · Discovery`;
  scrollTo(0, 0);
  view = VIEWS[name].mount(content, parameters, { fail });
  drawBanners();
}

/** A view could not show what it should. What the state of the node explains is said above already. */
function fail(problem) {
  if (problem.name === "AbortError") return;
  trouble = problem.gone || problem.notReady || problem.status === 401 ? "" : problem.message ?? String(problem);
  if (problem.status === undefined) console.error(problem);
  drawBanners();
}

let refreshing = false;
let waiting = null;  // what is to be refreshed next: a Set of services, or ALL
const ALL = "all";

/** One at a time, and never more than a fifth of the time: each costs the node something, too. */
async function refresh(what) {
  waiting = what === ALL || waiting === ALL ? ALL : new Set([...(waiting ?? []), ...what]);
  if (refreshing) return;
  refreshing = true;
  while (waiting !== null) {
    const next = waiting;
    waiting = null;
    const began = performance.now();
    trouble = "";
    try {
      await (next === ALL ? view?.refresh() : view?.changed(next));
    } catch (error) {
      fail(error);
    }
    drawBanners();
    const took = performance.now() - began;
    await new Promise((resolve) => { setTimeout(resolve, REFRESH_PAUSE + 4 * took); });
  }
  refreshing = false;
}

// ------------------------------------------------------------ the state of the node

const LINKS = { connecting: "Connecting", live: "Live", gone: "Not there", starting: "Not ready", token: "Token needed" };

function banner(kind, strong, text, ...more) {
  return h("div", { class: `banner ${kind}` }, h("p", {}, h("strong", {}, strong), " ", text), ...more);
}

let drawn = "";

function drawBanners() {
  const parts = [];
  if (state.state === "gone") {
    parts.push(["bad", "The node does not answer", `since ${clock(state.since)}${state.detail && ` (${state.detail})`}. What is below is as it was then; trying again all the time.`]);
  } else if (state.state === "starting") {
    parts.push(["warn", "The node is not ready.", state.detail]);
  } else if (state.state === "token") {
    parts.push(["warn", "This node asks for a token.", state.detail, "token"]);
  }
  if (stale !== null && state.state !== "gone") {
    const began = clock(Date.now() - stale * 1000).slice(0, 5);
    parts.push(["warn", "The store is out of reach", `since about ${began}. What is below, and what DNS answers, is as it was then; nothing can be registered or changed until it is back.`]);
  }
  if (overview?.unreadable) {
    parts.push(["info", `${many(overview.unreadable, "stored record")} can't be read`, "and gives nothing in DNS.", "unreadable"]);
  }
  if (astray) parts.push(["warn", "This address can't be read:", `${astray}. These are all services.`]);
  if (trouble) parts.push(["warn", "This could not be shown:", trouble]);
  const key = JSON.stringify(parts);
  document.body.classList.toggle("old", state.state === "gone");
  if (key === drawn) return;  // a live region speaks when it changes
  drawn = key;
  banners.replaceChildren(...parts.map(([kind, strong, text, action]) => banner(kind, strong, text, action === "token"
    ? h("button", { type: "button", onclick: () => askToken(text) }, "Give a token")
    : action === "unreadable" ? h("a", { href: "#/unreadable" }, "Show them") : null)));
}

function drawState() {
  const link = document.getElementById("link");
  link.dataset.state = state.state === "live" && stale !== null ? "stale" : state.state;
  say(document.getElementById("link-text"), state.state === "live" && stale !== null ? "Live, stale" : LINKS[state.state]);
  say(document.getElementById("token"), hasToken() ? "Token: in use" : "Token");
  drawBanners();
}

live.addEventListener("state", () => {
  drawState();
  if (state.state === "token") askToken(state.detail);
});
live.addEventListener("overview", () => {
  say(document.getElementById("node"), `${location.host} · revision ${number(overview.revision)} · ${many(overview.registered, "instance")}`);
  drawBanners();
});
live.addEventListener("changed", (event) => refresh(event.detail));
live.addEventListener("anew", () => refresh(ALL));
told.addEventListener("token", () => { drawState(); refresh(ALL); });
told.addEventListener("answer", (event) => {
  if ((stale === null) !== (event.detail.stale === null)) {
    stale = event.detail.stale;
    drawState();
  }
});

// ------------------------------------------------------------ keys and buttons

document.getElementById("token").addEventListener("click", () => askToken("A token says what its holder may do here: read, register, operate."));
document.getElementById("register").addEventListener("click", () => register());
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    const box = document.getElementById("search");
    if (box && !box.hidden) box.focus();
    else location.hash = "#/services";
  }
});

addEventListener("hashchange", () => {
  show();
  const head = content.querySelector("h1");  // where the keyboard goes on, and what a screen reader reads out
  head.tabIndex = -1;
  head.focus({ preventScroll: true });
});
addEventListener("unhandledrejection", (event) => toast(`The page met a fault of its own: ${event.reason?.message ?? event.reason}`));
setInterval(() => view?.tick?.(), 500);
setInterval(() => { if (state.state === "live" && !document.hidden) refresh(ALL); }, ALL_EVERY);
show();
drawState();
follow();
