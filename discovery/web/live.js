// The node's changes as they happen: one stream of server-sent events over fetch (an EventSource can't send a token),
// resumed from the last whole revision, and a look every few seconds for what no event tells (a stale view, a clock).
//
// Tells: "state" ({state, since, detail}), "changed" (a Set of services), "anew" (all may be different).

import { ask, compareClocks, get, told } from "/page/api.js";

const LOOK_EVERY = 5000;
const LOOK_LIMIT = 8000;
const SILENCE = 25000;  // the node says something at least every 15 s
const UNSEEN = 10000;   // a browser has six connections to a node: a tab that nobody sees gives its own back
const AGAIN = 300;      // ms after a stream that the node ended
const GATHER = 40;      // ms in which changes are told together
const PAUSES = [0, 500, 1000, 2000];

export const live = new EventTarget();
export let state = { state: "connecting", since: Date.now(), detail: "" };
export let overview = null;  // the last answer of /v1/search without words

function become(name, detail = "") {
  if (state.state === name && state.detail === detail) return;
  state = { state: name, detail, since: state.state === name ? state.since : Date.now() };
  live.dispatchEvent(new Event("state"));
}

let revision = null;
let changed = new Set();
let gathering = 0;

function gather(service) {
  changed.add(service);
  gathering ||= setTimeout(() => {
    const services = changed;
    changed = new Set();
    gathering = 0;
    live.dispatchEvent(new CustomEvent("changed", { detail: services }));
  }, GATHER);
}

/** One message of the stream. False: the node ended it, for we were too slow. */
function take(id, data) {
  if (data) {
    const event = JSON.parse(data);
    if (event.type === "lagged") return false;
    if (event.service !== undefined) gather(event.service);
  }
  if (id) revision = Number(id);
  return true;
}

async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let silence = 0;
  try {
    for (;;) {
      clearTimeout(silence);
      silence = setTimeout(() => reader.cancel().catch(() => {}), SILENCE);
      const { done, value } = await reader.read();
      if (done) return;
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        let id = "";
        let data = "";
        for (const line of message.split("\n")) {
          if (line.startsWith("id: ")) id = line.slice(4);
          else if (line.startsWith("data: ")) data += line.slice(6);
        }
        if (!take(id, data)) return;
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

let stream = null;
let leaving = 0;

document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(() => stream?.abort(), UNSEEN);
  else look();
});

const seen = () => new Promise((resolve) => {
  const check = () => {
    if (document.hidden) return;
    document.removeEventListener("visibilitychange", check);
    resolve();
  };
  document.addEventListener("visibilitychange", check);
  check();
});

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });
const token = () => new Promise((resolve) => told.addEventListener("token", resolve, { once: true }));

/** As long as the page is open. */
export async function follow() {
  let failures = 0;
  let away = false;
  setInterval(look, LOOK_EVERY);
  for (;;) {
    await pause(PAUSES[Math.min(failures, PAUSES.length - 1)]);
    try {
      if (revision === null) {
        await look(true);
        revision = overview.revision;
        live.dispatchEvent(new Event("anew"));
      }
      stream = new AbortController();
      const response = await ask("/v1/watch", { signal: stream.signal, headers: { Accept: "text/event-stream", "Last-Event-ID": String(revision) } });
      const back = state.state !== "live";
      become("live");
      if ((back && failures) || away) live.dispatchEvent(new Event("anew"));
      away = false;
      failures = 0;
      compareClocks().catch(() => {});
      await read(response);
      await pause(AGAIN);
    } catch (problem) {
      if (problem.name === "AbortError" && document.hidden) {
        await seen();
        away = true;
        continue;
      }
      failures += 1;
      if (problem.status === 410) revision = null;  // compacted, or another store
      else if (problem.wantsToken) {
        become("token", problem.message);
        await token();
        failures = 0;
      } else if (problem.notReady) become("starting", problem.message);
      else become("gone", why(problem));
    }
  }
}

/** More than that no answer came: a proxy's word, or a limit's. */
const why = (problem) => (problem.status ? problem.message : "");

async function look(thrown = false) {
  if (!thrown && document.hidden) return;
  if (!thrown && state.state !== "live") return;
  try {
    overview = await get("/v1/search?limit=1", { signal: AbortSignal.timeout(LOOK_LIMIT) });
    live.dispatchEvent(new Event("overview"));
  } catch (problem) {
    if (thrown) throw problem;
    if (problem.gone) {
      become("gone", why(problem));
      stream?.abort();  // it may hang, and is not to be waited for
    } else if (problem.notReady) become("starting", problem.message);
  }
}

/** Looks now, when something was written. */
export const lookNow = () => look();
