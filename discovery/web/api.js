// The node's API: one call at a time, its errors as they are, and what its answers say beside their body.
// The token is kept for this tab only (sessionStorage) and leaves it only in the Authorization header.

export class Problem extends Error {
  /** `status` 0: no answer at all. */
  constructor(status, detail, type = "") {
    super(detail);
    this.status = status;
    this.type = type;
  }

  get gone() { return this.status === 0 || this.status === 502 || this.status === 504; }
  get notReady() { return this.status === 503 && this.type.endsWith("/not-ready"); }
  get wantsToken() { return this.status === 401 || this.status === 403; }
}

const KEY = "discovery-token";
let token = sessionStorage.getItem(KEY) ?? "";

/** What every answer tells on the way: "answer" with {stale}, "token" when another one is used, "refused" on 401. */
export const told = new EventTarget();

export const hasToken = () => token !== "";

export function useToken(text) {
  token = text;
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
  told.dispatchEvent(new Event("token"));
}

export function headers(more) {
  return token ? { Authorization: `Bearer ${token}`, ...more } : { ...more };
}

export async function problemOf(response) {
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // a proxy's page, or nothing: the status has to do
  }
  return new Problem(response.status, problem.detail ?? `the answer was ${response.status} ${response.statusText}`, problem.type ?? "");
}

/** fetch, where no answer is a Problem of status 0, and a refusal one of its own. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(options.headers), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the node does not answer");
  }
  const stale = response.headers.get("X-Stale-Seconds");
  if (response.ok) told.dispatchEvent(new CustomEvent("answer", { detail: { stale: stale === null ? null : Number(stale) } }));
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401) told.dispatchEvent(new CustomEvent("refused", { detail: problem }));
    throw problem;
  }
  return response;
}

/** A call's JSON. Throws Problem. */
export async function call(method, path, body, options = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await ask(path, { method, ...sent, ...options });
  try {
    return response.status === 204 ? null : await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "the node's answer broke off");
  }
}

export const get = (path, options) => call("GET", path, undefined, options);

export function url(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value !== undefined && value !== "") query.set(name, value);
  return `${path}?${query}`;
}

export const servicePath = (service) => `/v1/services/${encodeURIComponent(service)}`;
export const instancePath = (service, instance) => `${servicePath(service)}/${encodeURIComponent(instance)}`;

let ahead = 0;  // ms that the node's clock is ahead of the browser's

/** Milliseconds since the epoch by the node's clock, which its times are of. */
export const nodeTime = () => Date.now() + ahead;

export async function compareClocks() {
  const began = Date.now();
  const { time_ms: there } = await get("/healthz");
  ahead = there - (began + Date.now()) / 2;
}
