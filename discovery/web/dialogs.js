// What is done by hand: register, drain, deregister, and the token for it. Each says what came of it.

import { call, hasToken, instancePath, useToken } from "/page/api.js";
import { clock, h, say, span } from "/page/dom.js";
import { lookNow } from "/page/live.js";

/** Shows a dialog until it is closed; what it was closed with. Esc closes it with "". */
function shown(dialog) {
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      const said = dialog.returnValue;
      dialog.remove();
      resolve(said);
    });
  });
}

function framed(title, ...children) {
  const id = `title-${title.replaceAll(/\W+/g, "-")}`;
  return h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

export function toast(text, action) {
  const close = h("button", { type: "button", class: "quiet small", "aria-label": "Dismiss" }, "×");
  const element = h("div", { class: "toast" }, h("span", {}, text), action ?? null, close);
  const end = () => element.remove();
  close.addEventListener("click", end);
  action?.addEventListener("click", end);
  document.getElementById("toasts").append(element);
  setTimeout(end, 12000);
}

/** Does it; asks for a (further) token where one is missing and tries again; says what went wrong otherwise. */
async function done(what, work) {
  for (;;) {
    try {
      const answer = await work();
      lookNow();
      return answer;
    } catch (problem) {
      if (problem.wantsToken && (await askToken(problem.message))) continue;
      toast(`${what}: ${problem.message}`);
      return null;
    }
  }
}

let asking = null;

/** True when there is another token to try. One dialog at a time, however many calls were refused. */
export function askToken(reason) {
  asking ??= tokenDialog(reason).finally(() => { asking = null; });
  return asking;
}

async function tokenDialog(reason) {
  const field = h("input", { id: "token-text", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const form = h("form", { method: "dialog" },
    h("p", {}, reason),
    h("label", { for: "token-text" }, "Token"), field,
    h("p", { class: "soft" }, "It is kept for this tab alone and forgotten when it is closed. ", h("code", {}, "discovery token make"), " makes one."),
    h("p", { class: "ends" },
      hasToken() ? h("button", { type: "button", class: "quiet", onclick: () => dialog.close("forget") }, "Forget the one in use") : null,
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Cancel"),
      h("button", { value: "use", class: "strong" }, "Use it")));
  const dialog = framed("A token", form);
  const said = await shown(dialog);
  if (said === "use" && field.value.trim()) {
    useToken(field.value.trim());
    return true;
  }
  if (said === "forget") useToken("");
  return false;
}

const of = (item) => `${item.instance} of ${item.service}`;

export async function drain(item) {
  const answer = await done(`${of(item)} was not drained`, () => call("POST", `${instancePath(item.service, item.instance)}/drain`));
  if (!answer) return;
  const undo = h("button", { type: "button", class: "small", onclick: () => undrain(item) }, "Undo");
  toast(`${of(item)} is out of DNS. No resolver holds it after ${clock(answer.safe_at)}.`, undo);
}

export async function undrain(item) {
  const answer = await done(`${of(item)} was not put back`, () => call("POST", `${instancePath(item.service, item.instance)}/undrain`));
  if (answer) toast(`${of(item)} is back in DNS.`);
}

export async function confirmDeregister(item) {
  const dialog = framed(`Deregister ${item.instance}?`,
    h("p", {}, "It leaves DNS at once and is forgotten here. What runs there goes on, and comes back when it registers again."),
    h("p", { class: "mono" }, item.name),
    h("form", { method: "dialog", class: "ends" },
      h("button", { value: "", class: "quiet", autofocus: true }, "Cancel"),
      h("button", { value: "yes", class: "strong bad" }, "Deregister")));
  return (await shown(dialog)) === "yes";
}

export async function deregister(item) {
  const answer = await done(`${of(item)} was not deregistered`, async () => {
    await call("DELETE", instancePath(item.service, item.instance));
    return true;
  });
  if (answer) toast(`${of(item)} is deregistered.`);
}

export function showInstance(item) {
  const rows = [
    ["Name", item.name], ["Host", item.host || "none: TXT only"], ["Port", item.port || "none"],
    ["Named ports", Object.entries(item.ports).map(([name, port]) => `${name} ${port}`).join(", ")],
    ["Priority, weight", `${item.priority}, ${item.weight}`], ["TTL", span(item.ttl)],
    ["Tags", item.tags.join(", ")], ["Text", item.text], ["Group", item.group], ["Mail", item.mail ? "yes" : ""],
    ["Meta", Object.entries(item.meta).map(([name, text]) => `${name}=${text}`).join(", ")],
    ["Lease", item.lease ? `${item.lease}, ${span(item.lease_ttl ?? 0)}` : "none: it stays until it is deregistered"],
    ["Heartbeat", item.heartbeat_every ? `every ${item.heartbeat_every} s` : ""],
    ["Expires", item.expires_at ? clock(item.expires_at) : ""],
    ["Drained", item.drained_at ? `since ${clock(item.drained_at)}` : ""], ["Revision", item.revision],
  ];
  const list = h("dl", {}, rows.filter(([, value]) => value !== "" && value !== null)
    .map(([name, value]) => [h("dt", {}, name), h("dd", { class: "mono" }, String(value))]));
  shown(framed(item.instance, list, h("form", { method: "dialog", class: "ends" }, h("button", { autofocus: true }, "Close"))));
}

function field(name, label, hint, attributes = {}) {
  const box = h("input", { id: `field-${name}`, name, autocomplete: "off", spellcheck: "false", "aria-describedby": `hint-${name}`, ...attributes });
  return h("div", { class: "field" }, h("label", { for: `field-${name}` }, label), box, h("small", { id: `hint-${name}` }, hint));
}

/** The dialog stays until it is done or given up, and says at the field what the node did not take. */
export async function register({ service = "" } = {}) {
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const form = h("form", { method: "dialog" },
    h("div", { class: "fields" },
      field("service", "Service", "such as web.prod", { required: true, value: service, autofocus: !service }),
      field("instance", "Instance", "one label, such as i1", { required: true, autofocus: Boolean(service) }),
      field("host", "Host", "an address or a name; empty: text only"),
      field("port", "Port", "0 to 65535", { inputmode: "numeric", pattern: "[0-9]*" }),
      field("tags", "Tags", "apart by commas"),
      field("lease_ttl", "Lease", "seconds; 0: it stays until it is deregistered", { inputmode: "numeric", pattern: "[0-9]+", value: "0", required: true }),
      field("weight", "Weight", "empty: the zone's", { inputmode: "numeric", pattern: "[0-9]*" }),
      field("text", "Text", "for TXT")),
    error,
    h("p", { class: "ends" },
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close("") }, "Cancel"),
      h("button", { class: "strong" }, "Register")));
  const dialog = framed("Register an instance", form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    error.hidden = true;
    for (const box of form.querySelectorAll("input")) box.removeAttribute("aria-invalid");
    const told = Object.fromEntries([...new FormData(form)].map(([name, text]) => [name, text.trim()]));
    try {
      const answer = await call("PUT", instancePath(told.service, told.instance), bodyOf(told));
      lookNow();
      dialog.close("done");
      toast(`${of(answer)} is registered, and in DNS.`);
    } catch (problem) {
      if (problem.wantsToken && (await askToken(problem.message))) {
        form.requestSubmit();
        return;
      }
      say(error, problem.message);
      error.hidden = false;
      const name = problem.message.split(/[:.]/)[0];
      const box = form.elements[name];
      box?.setAttribute("aria-invalid", "true");
      box?.focus();
    }
  });
  await shown(dialog);
}

function bodyOf(told) {
  const body = { host: told.host, lease_ttl: Number(told.lease_ttl) };
  if (told.port) body.port = Number(told.port);
  if (told.weight) body.weight = Number(told.weight);
  if (told.text) body.text = told.text;
  const tags = told.tags.split(",").map((tag) => tag.trim()).filter(Boolean);
  if (tags.length) body.tags = tags;
  return body;
}
