"use strict";

const flag = document.body.dataset.flag;
const kept = Number(document.body.dataset.kept);
const people = ["ada", "alan", "barbara", "claude", "donald", "edsger", "frances", "grace", "hedy", "katherine", "ken", "margaret", "niklaus", "radia", "robin", "sophie"];
const atOnce = 8;

const $ = (id) => document.getElementById(id);
let started = "";      // which run of the shop is shown: sequences begin with it
let newest = 0;        // sequence of the newest request shown
let mode = "on";       // as the shop said last

// el makes an element. Text is set as text, so nothing in it can be markup.
function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children);
  return e;
}

function flagged(e, name, yes) {
  e.toggleAttribute(name, Boolean(yes));
}

const milliseconds = (ms) => (ms < 10 ? ms.toFixed(1) : ms < 1000 ? ms.toFixed(0) : (ms / 1000).toFixed(2)) + (ms < 1000 ? " ms" : " s");
const missing = (hop, key) => (hop.pinUnavailable || []).includes(key);
const short = (hop, key) => missing(hop, key) ? "no pin" : hop.flags[key] || "default";
const seen = (hop, key) => missing(hop, key) ? "not to be had" : hop.flags[key] === "" ? "code default" : hop.flags[key];

// connection

function showConnection(services) {
  const up = services.filter((s) => s.connected).length;
  const known = services.find((s) => s.environment);
  const error = services.find((s) => s.error);
  const c = $("connection");
  let text, state;
  if (up === services.length) {
    [text, state] = [`Guidon connected · ${known ? known.environment : ""}`, "up"];
  } else if (up > 0) {
    [text, state] = [`${up} of ${services.length} services connected to Guidon`, "some"];
  } else {
    text = `Guidon cannot be reached at ${document.body.dataset.guidon}. The services keep trying, and serve ` +
      (services.some((s) => s.revision > 0) ? "what they knew last." : "the code’s own defaults.") + (error ? ` (${error.error})` : "");
    state = "down";
  }
  if (c.textContent !== text) c.textContent = text;
  c.dataset.state = state;
}

function showServices(services) {
  const head = Math.max(...services.map((s) => s.revision));
  $("services").replaceChildren(...services.map((s) => {
    const behind = head - s.revision;
    const note = !s.connected ? "not connected" : behind > 0 ? `${behind} behind` : s.lagMs > 0 ? `${milliseconds(s.lagMs)} late on purpose` : "up to date";
    return el("li", { "data-behind": behind > 0, "data-down": !s.connected, title: s.url },
      el("span", { class: "name" }, s.name),
      el("span", { class: "quiet" }, note),
      el("span", { class: "rev" }, s.revision ? `revision ${s.revision}` : "no revision"));
  }));
}

// counters

function showMode(now) {
  mode = now;
  const lever = $("propagation");
  lever.setAttribute("aria-checked", String(now === "on"));
  $("propagation-state").textContent = now;
  flagged($("propagation-state"), "data-off", now === "off");
  $("propagation-means").textContent = now === "on"
    ? "The guidon header travels with every call: all hops evaluate at the revision that web pinned."
    : "The control: no header is sent or read. Each service evaluates at its own newest revision.";
  for (const card of document.querySelectorAll(".number[data-mode]")) flagged(card, "data-now", card.dataset.mode === now);
}

function showCounts(counts) {
  for (const card of document.querySelectorAll(".number[data-mode]")) {
    const c = counts[card.dataset.mode];
    const set = (name, text) => { card.querySelector(`[data-count="${name}"]`).textContent = text; };
    set("torn", c.torn.toLocaleString("en"));
    set("requests", c.requests.toLocaleString("en"));
    set("share", c.torn ? ` · ${(100 * c.torn / c.requests).toFixed(1)} %` : "");
    const more = [];
    if (c.pinUnavailable) more.push(`${c.pinUnavailable} with a pin that could not be had`);
    if (c.failed) more.push(`${c.failed} failed`);
    set("more", more.join(" · "));
    flagged(card, "data-torn", c.torn > 0);
  }
}

function showArrivals(a) {
  if (!a.changes) return;
  $("p50").textContent = milliseconds(a.p50Ms);
  $("p99").textContent = milliseconds(a.p99Ms);
  $("arrivals").textContent = `from commit, over ${a.changes.toLocaleString("en")} change${a.changes === 1 ? "" : "s"}` +
    (a.pending ? ` · ${a.pending} on the way` : "");
}

// header

let shownHeader = "";

function showHeader(parts) {
  const value = parts.map((p) => p.text).join("");
  if (value === shownHeader) return;
  shownHeader = value;
  $("header-none").hidden = parts.length > 0;
  $("header-value").hidden = parts.length === 0;
  const light = (part, lit) => {
    for (const e of document.querySelectorAll(`[data-part="${CSS.escape(part)}"]`)) flagged(e, "data-lit", lit);
  };
  const lights = (e, part) => {
    e.addEventListener("pointerenter", () => light(part, true));
    e.addEventListener("pointerleave", () => light(part, false));
    return e;
  };
  $("header-value").replaceChildren(...parts.map((p) => lights(el("span", { "data-part": p.name }, p.text), p.name)));
  $("header-parts").replaceChildren(...parts.map((p) => lights(el("div", { "data-part": p.name },
    el("dt", {}, p.name === "version" ? "1" : p.name),
    el("dd", { class: "what" }, p.name === "version" ? "guidon" : p.value),
    el("dd", { class: "means" }, p.means)), p.name)));
}

// requests

function showRequests(requests) {
  const list = $("requests");
  for (const r of [...requests].reverse()) {
    if (r.sequence <= newest) continue;
    newest = r.sequence;
    list.prepend(requestCard(r));
  }
  while (list.children.length > kept) list.lastElementChild.remove();
  $("requests-none").hidden = list.children.length > 0;
  $("requests-count").textContent = newest ? `${list.children.length} of ${newest.toLocaleString("en")}` : "";
}

function requestCard(r) {
  const hops = r.answer.hops;
  const torn = r.tornFlags || [];
  const missed = r.answer.pinUnavailable || 0;
  const verdict = torn.length ? `TORN: ${torn.join(", ")}` : missed ? "pin not to be had" : `all agree`;
  return el("li", { class: "request", "data-torn": torn.length > 0, "data-unknown": missed > 0 },
    el("header", {},
      el("span", { class: "who" }, r.person.user),
      el("span", { class: "verdict" }, verdict),
      el("span", { class: "way" }, `${r.person.plan} · ${r.person.country} · propagation ${r.propagation} · ${milliseconds(hops[0].ms)}`)),
    el("ul", { class: "tree" }, branch(hops, 0)),
    el("details", { open: torn.length > 0 && !torn.includes(flag) },
      el("summary", {}, "All flags"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `flags of request ${r.sequence}` }, flagTable(hops, torn)),
      el("p", { class: "id" }, `correlation ID ${r.answer.correlationId}`)));
}

// How a request came to a hop, for people.
const ways = { http: "HTTP", proxy: "HTTP", grpc: "gRPC", connect: "Connect", jetstream: "JetStream" };

// branch is one hop and those below it: hops are in the order of a walk, so its
// children are the ones one deeper, up to the next hop that is not deeper.
function branch(hops, at) {
  const hop = hops[at];
  const children = [];
  for (let i = at + 1; i < hops.length && hops[i].depth > hop.depth; i++) {
    if (hops[i].depth === hop.depth + 1) children.push(branch(hops, i));
  }
  const variant = hop.flags[flag];
  const differs = !missing(hop, flag) && !missing(hops[0], flag) && variant !== hops[0].flags[flag];
  const line = el("div", { class: "hop", title: `${hop.reasons[flag]} · ${milliseconds(hop.ms)}` },
    ...called(hop.service, at > 0 ? hop.via : ""),
    el("span", { class: "rev" }, hop.revision ? `r${hop.revision}` : "none"),
    el("span", { class: "variant", "data-variant": variant, "data-differs": differs, "data-missing": missing(hop, flag) },
      (differs ? "≠ " : "") + short(hop, flag)));
  const here = children.length ? el("li", {}, line, el("ul", {}, ...children)) : el("li", {}, line);
  if (hop.via !== "proxy") return here;
  return el("li", {},
    el("div", { class: "hop", title: "reads no flags: it passes the header on, byte for byte" }, ...called("proxy", "http"), el("span", { class: "passes" }, "passes it on")),
    el("ul", {}, here));
}

// called is who was called, and over what.
function called(service, via) {
  return [el("span", { class: "service" }, service), el("span", { class: "via" }, ways[via] || via)];
}

function flagTable(hops, torn) {
  const keys = [...new Set(hops.flatMap((h) => Object.keys(h.flags)))].sort();
  const name = (h) => h.service + (hops.filter((o) => o.service === h.service).length > 1 ? ` ← ${h.parent}` : "");
  return el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "flag"), ...hops.map((h) => el("th", { scope: "col" }, name(h))))),
    el("tbody", {}, ...keys.map((key) => el("tr", { "data-torn": torn.includes(key) },
      el("th", { scope: "row" }, key),
      ...hops.map((h) => el("td", { title: h.reasons[key] }, key in h.flags ? seen(h, key) : "·"))))));
}

// talking to the shop

let refreshing = false;

async function refresh() {
  if (refreshing) return;
  refreshing = true;
  try {
    const answer = await fetch(`stats?after=${newest}`, { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const stats = await answer.json();
    if (started && started !== stats.started) return location.reload();
    started = stats.started;
    showConnection(stats.services);
    showServices(stats.services);
    showMode(stats.propagation);
    showCounts(stats.counts);
    showArrivals(stats.arrivals);
    showHeader(stats.header);
    showRequests(stats.requests);
  } catch {
    $("connection").textContent = "The shop itself does not answer.";
    $("connection").dataset.state = "down";
  } finally {
    refreshing = false;
  }
}

async function send(count) {
  const buttons = [$("send-one"), $("send-many")];
  for (const b of buttons) b.disabled = true;
  const times = [];
  let sent = 0, torn = 0, failed = 0;
  const lane = async () => {
    while (sent < count) {
      sent++;
      const user = people[Math.floor(Math.random() * people.length)];
      const begin = performance.now();
      try {
        const answer = await fetch(`checkout?user=${user}`, { signal: AbortSignal.timeout(10000) });
        if (!answer.ok) throw new Error(answer.statusText);
        if ((await answer.json()).torn) torn++;
        times.push(performance.now() - begin);
      } catch {
        failed++;
      }
      $("sent").textContent = `${times.length + failed} of ${count} …`;
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, count) }, lane));
  times.sort((a, b) => a - b);
  const half = times.length ? ` · p50 ${milliseconds(times[Math.ceil(times.length / 2) - 1])}` : "";
  $("sent").textContent = `${times.length} answered, ${torn} torn${failed ? `, ${failed} failed` : ""}${half}`;
  for (const b of buttons) b.disabled = false;
  await refresh();
}

$("send-one").addEventListener("click", () => send(1));
$("send-many").addEventListener("click", () => send(100));
$("propagation").addEventListener("click", async () => {
  const to = mode === "on" ? "off" : "on";
  try {
    await fetch("propagation", { method: "POST", body: to });
  } finally {
    await refresh();
  }
});
$("self").textContent = location.origin;

refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
