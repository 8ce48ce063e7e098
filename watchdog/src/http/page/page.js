// The status page. It asks its own sidecar once a second while somebody looks, and only shows.
// Names, reasons and last words come from outside: they become text, never markup. Nodes are kept
// and changed in place, so that focus, selection and what is open survive each answer.
"use strict";

const ASK_EVERY = 1000, ANSWER_WITHIN = 4000, SILENT_AFTER = 3500, LISTS_EVERY = 5000, WORST = 50, MINUTE = 60e6;
const $ = (id) => document.getElementById(id);

// level, shape
const VERDICTS = {
  healthy: ["ok", "check"], starting: ["info", "clock"], degraded: ["warn", "warn"], excused: ["info", "pause"],
  condemned: ["bad", "stop"], dying: ["bad", "stop"], dead: ["bad", "dead"], restarting: ["warn", "turn"],
  crash_loop: ["bad", "loop"], unguarded: ["bad", "ask"], "no answer": ["bad", "ask"],
};
const HEALTH = {
  working: ["ok", "play"], idle: ["none", "ring"], starting: ["info", "clock"], late: ["warn", "warn"],
  stalled: ["bad", "stop"], gone: ["bad", "cross"], excused: ["info", "pause"],
};
const STATUS = { open: ["bad", "stop"], recovered: ["ok", "check"], abandoned: ["none", "ring"], interrupted: ["warn", "warn"] };
const OUTCOME = { recovered: ["ok", "check"], condemned: ["bad", "stop"], ended: ["none", "ring"] };
const RANK = { gone: 0, stalled: 1, late: 2, excused: 4, starting: 5 };
const RING = "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18";
const SHAPES = {
  check: RING + "M8 12l3 3l5-6", ring: RING, play: RING + "M10 8.5v7l6-3.5z", clock: RING + "M12 7v5l3 2",
  pause: RING + "M10 9v6M14 9v6", cross: RING + "M9 9l6 6M15 9l-6 6", warn: "M12 4L2.5 20h19zM12 10v4.5M12 17.2v.1",
  stop: "M8 3h8l5 5v8l-5 5H8l-5-5V8zM9 9l6 6M15 9l-6 6", dead: "M4 4h16v16H4zM9 9l6 6M15 9l-6 6",
  turn: "M20 12a8 8 0 1 1-2.5-5.8M20 3v4.5h-4.5", loop: "M7 8a4 4 0 1 0 0 8c4 0 6-8 10-8a4 4 0 1 1 0 8c-4 0-6-8-10-8",
  ask: "M12 2l10 10l-10 10L2 12zM9.7 9.7a2.4 2.4 0 1 1 3.4 2.1c-.8.4-1.1.9-1.1 1.8M12 16.4v.1",
};
// The alert of alerts/ whose runbook page fits.
const ALERT = {
  thread_gone: "ShardThreadGone", leader_gone: "ShardThreadGone", process_gone: "ShardProcessGone", stalled: "ShardStalled",
  channel_lag: "ShardStalled", silent: "ShardSilent", stopped: "ShardStalled", exit_hung: "ShardStalled",
  condemned: "ShardCondemned", requested: "ShardCondemned", dying: "ShardDyingTooLong", dead: "ShardRestartSlow",
  restarting: "ShardRestartSlow", crash_loop: "ShardCrashLoop", degraded: "ShardDegraded", excused: "ShardExcusedTooLong",
  unguarded: "ShardWatchdogStuck",
};

const PARTS = ["working", "idle", "excused", "counted", "other"];
const page = { status: null, shown: "worst", find: "", heard: 0, skew: 0, entry: 0, history: new Map(), without: 0, lists: 0, key: "", said: "", why: "" };

// Nodes

function make(node, attributes, kids) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...kids.filter((kid) => kid !== null && kid !== undefined));
  return node;
}
const el = (tag, attributes, ...kids) => make(document.createElement(tag), attributes, kids);
const svg = (tag, attributes, ...kids) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, kids);

function text(node, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}
function set(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// One child of `parent` for each item, by key, in their order.
function each(parent, items, key, build, update) {
  const held = parent.held || (parent.held = new Map());
  const wanted = new Map();
  for (const item of items) {
    let name = String(key(item));
    while (wanted.has(name)) name += "'";
    wanted.set(name, item);
  }
  for (const [name, node] of held) {
    if (!wanted.has(name)) { node.remove(); held.delete(name); }
  }
  let at = parent.firstChild;
  for (const [name, item] of wanted) {
    let node = held.get(name);
    if (!node) held.set(name, node = build(item));
    if (update) update(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

function shape(name) {
  return svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, svg("path", { d: SHAPES[name] }));
}
// A shape and a word, of the same node.
function state(node, [level, form], word) {
  if (node.form !== form) {
    node.replaceChildren(el("span", { class: "icon" }, shape(form)), " ", el("span"));
    node.form = form;
  }
  text(node.lastChild, word);
  set(node, "class", "state " + level);
}

// Words

const plain = (word) => String(word).replaceAll("_", " ");
const count = (n) => (typeof n === "number" ? n.toLocaleString("en-US") : String(n));
function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, seconds);
  if (s < 10) return s.toFixed(2) + " s";
  if (s < 60) return s.toFixed(1) + " s";
  const whole = Math.round(s), and = (large, one, small, other) => large + " " + one + (small ? " " + small + " " + other : "");
  if (whole < 3600) return and(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86400) return and(Math.floor(whole / 3600), "h", Math.floor(whole % 3600 / 60), "min");
  return and(Math.floor(whole / 86400), "d", Math.floor(whole % 86400 / 3600), "h");
}
const short = (ms) => (ms === null || ms === undefined ? "–" : ms < 1 ? ms.toFixed(3) + " ms" : ms < 1000 ? ms.toFixed(1) + " ms" : span(ms / 1000));
const now = () => Date.now() + page.skew;
function clock(at) {
  const time = new Date(at), day = new Date(now());
  const hours = time.toLocaleTimeString("en-GB");
  return time.toDateString() === day.toDateString() ? hours : time.toLocaleDateString("en-GB", { day: "numeric", month: "short" }) + " " + hours;
}
const ago = (at) => span(Math.max(0, Math.round((now() - Date.parse(at)) / 1000))).replace(/\.\d+ s$/, " s");

// An address of the config with its placeholders filled in; null if one has no value or the result
// is no address to visit.
function address(template, values) {
  let whole = true;
  const filled = template.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    whole = whole && value !== null && value !== undefined && !/^\.*$/.test(value);
    return encodeURIComponent(String(value)).replace(/[!'()*]/g, (c) => "%" + c.charCodeAt(0).toString(16));
  });
  return whole && /^https?:\/\//.test(filled) ? filled : null;
}
function links(parent, values) {
  const templates = (page.status && page.status.links) || {};
  const found = ["runbook", "trace", "dashboard"].map((name) => [name, templates[name] && address(templates[name], values)]);
  each(parent, found.filter(([, url]) => url), ([name]) => name,
    ([name]) => el("a", { rel: "noopener noreferrer", target: "_blank" }, plain(name) + " ↗"),
    (node, [, url]) => set(node, "href", url));
}
// How to command this sidecar.
function command(order) {
  const socket = page.status.listeners.find((one) => one.name === "socket" && one.listening);
  const quoted = (word) => (/^[\w./:-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\\''") + "'");
  return "shard-watchdog " + order + (socket ? " --socket " + quoted(socket.address) : " --url " + location.origin + " --token-file FILE");
}

// Asking

class Unheard extends Error {}
async function ask(path, read) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN) });
  const date = Date.parse(answer.headers.get("date"));
  if (!answer.ok) throw Object.assign(new Unheard("answers " + answer.status), { code: answer.status });
  // The header has whole seconds: only a larger difference is one of the clocks.
  if (date) page.skew = Math.abs(date + 500 - Date.now()) > 1500 ? date + 500 - Date.now() : 0;
  return read(await answer.text());
}
// Numbers that a float cannot hold, such as keys of work, stay as they were written.
const json = (body) => JSON.parse(body, (_, value, context) =>
  typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) ? (context && context.source) || value : value);

let timer = 0, asking = false;
async function tick() {
  clearTimeout(timer);
  if (asking || document.hidden) return;
  asking = true;
  const began = Date.now();
  try {
    const fresh = page.entry ? "?after=" + Math.max(0, page.entry - 3) : "";
    const [status, history] = await Promise.all([ask("/api/v1/status", json), ask("/api/v1/history" + fresh, JSON.parse)]);
    page.status = status;
    page.heard = Date.now();
    remember(history, fresh !== "");
    show();
    await lists();
  } catch (error) {
    page.why = error instanceof Unheard ? "It " + error.message + "." : "";
    if (!(error instanceof Unheard || error instanceof TypeError || error instanceof DOMException)) console.error(error);
    if (began >= page.heard) hear(true);
  } finally {
    asking = false;
    timer = setTimeout(tick, Math.max(100, ASK_EVERY - (Date.now() - began)));
  }
}
async function lists() {
  const s = page.status, key = [s.verdict, s.since, s.pid, s.last_near_miss && s.last_near_miss.at].join();
  if (key === page.key && Date.now() - page.lists < LISTS_EVERY) return;
  const [incidents, near] = await Promise.all([ask("/api/v1/incidents", json), ask("/api/v1/near-misses", json)]);
  [page.key, page.lists] = [key, Date.now()];
  showIncidents(incidents.incidents);
  showNear(near.near_misses);
}

// The last minute

function remember(answer, partly) {
  if (partly && answer.entry < page.entry) { page.entry = 0; page.history.clear(); return; }
  const named = new Map(), kept = new Map();
  for (const one of answer.threads) {
    const nth = named.get(one.name) || 0;
    named.set(one.name, nth + 1);
    const key = one.name + "\n" + nth, news = one.length_us.map((length, i) => ({
      length, working: one.working_us[i], idle: one.idle_us[i], counted: one.counted_us[i], other: one.other_us[i],
      excuses: Object.entries(one.excused_us).map(([kind, micros]) => [kind, micros[i]]).filter(([, micros]) => micros),
      heartbeat: one.heartbeat_age_ms[i], work: one.work_age_ms[i], cpu: one.cpu_permille[i], delay: one.run_delay_permille[i],
    }));
    let old = page.history.get(key);
    old = old && partly ? old.entries.slice(0, Math.max(0, old.entries.length - (page.entry - (answer.entry - news.length)))) : [];
    kept.set(key, { name: one.name, tid: one.tid, entries: old.concat(news).slice(-60) });
  }
  [page.history, page.entry, page.without] = [kept, answer.entry, answer.without];
}
function minute(entries) {
  const sum = { working: 0, idle: 0, excused: 0, counted: 0, other: 0 }, kinds = new Map();
  let all = 0;
  for (const entry of entries) {
    all += entry.length;
    for (const part of PARTS) if (part !== "excused") sum[part] += entry[part];
    for (const [kind, micros] of entry.excuses) {
      sum.excused += micros;
      kinds.set(kind, (kinds.get(kind) || 0) + micros);
    }
  }
  return { all, sum, kinds };
}
// Tenths of a second that add up as the exact numbers do.
function tenths(pairs, all) {
  const cut = pairs.map(([name, micros]) => ({ name, n: Math.floor(micros / 1e5), rest: micros % 1e5 }));
  let left = Math.round(all / 1e5) - cut.reduce((sum, one) => sum + one.n, 0);
  for (const one of [...cut].sort((a, b) => b.rest - a.rest)) if (left > 0) { one.n += 1; left -= 1; }
  return cut.filter((one) => one.n > 0);
}
function band(node, entries) {
  const { all, sum, kinds } = minute(entries);
  const whole = Math.max(all, MINUTE), d = { working: "", idle: "", excused: "", counted: "", other: "" };
  let x = (whole - all) / whole * 600;
  for (const entry of entries) {
    const w = entry.length / whole * 600;
    let y = 22;
    for (const part of PARTS) {
      const micros = part === "excused" ? entry.excuses.reduce((n, [, m]) => n + m, 0) : entry[part];
      const h = entry.length ? micros / entry.length * 22 : 0;
      if (h > 0) d[part] += "M" + x.toFixed(1) + " " + y.toFixed(1) + "h" + w.toFixed(1) + "v" + (-h).toFixed(1) + "h" + (-w).toFixed(1) + "z";
      y -= h;
    }
    x += w;
  }
  PARTS.forEach((part, i) => set(node.firstChild.childNodes[i], "d", d[part] || null));
  const said = [["working", sum.working], ["idle", sum.idle], ...[...kinds].map(([kind, m]) => ["excused, " + plain(kind), m]), ["counted", sum.counted], ["absent or unread", sum.other]];
  text(node.lastChild, tenths(said, all).map((one) => one.name + " " + (one.n / 10).toFixed(1) + " s").join(" · ") || "not yet");
}
function spark(node, values, least) {
  const known = values.filter((value) => value !== null), most = Math.max(least, ...known), from = 60 - values.length;
  let d = "", pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    d += pen + ((from + i) * 84 / 59).toFixed(1) + " " + (19 - value / most * 18).toFixed(1);
    pen = "L";
  });
  set(node.lastChild, "d", d || null);
}

// Threads

const sparkline = () => svg("svg", { class: "spark", viewBox: "0 0 84 20", "aria-hidden": "true", focusable: "false" },
  svg("path", { class: "floor", d: "M0 19.5h84" }), svg("path"));
function threadRow() {
  const value = (label) => el("td", { role: "cell", class: "n", "data-label": label }, el("span"), sparkline());
  return el("tr", { role: "row" },
    el("th", { role: "rowheader", scope: "row" }, el("span"), el("small")),
    el("td", { role: "cell", "data-label": "Health" }, el("span"), el("small")),
    el("td", { role: "cell", "data-label": "Work" }, el("span"), el("small")),
    value("Heartbeat age"), value("Work age"), value("CPU"), value("Run delay"),
    el("td", { role: "cell", class: "n", "data-label": "Counted" }, el("span"),
      svg("svg", { class: "meter", viewBox: "0 0 84 6", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
        svg("rect", { class: "whole", width: 84, height: 6 }), svg("rect", { class: "part", height: 6 })), el("small")),
    el("td", { role: "cell", class: "band-cell", "data-label": "The last minute" },
      svg("svg", { class: "band", viewBox: "0 0 600 22", preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" },
        ...PARTS.map((part) => svg("path", { class: part }))), el("small")));
}
function fillThread(row, thread) {
  const [name, health, work, heartbeat, age, cpu, delay, counted, last] = row.childNodes;
  const entries = thread.history ? thread.history.entries : [], newest = entries[entries.length - 1];
  const mark = HEALTH[thread.health] || ["none", "ask"], loud = ["bad", "warn"].includes(mark[0]) || thread.health === "excused";
  set(row, "class", loud ? "loud " + mark[0] : null);
  text(name.firstChild, thread.name);
  text(name.lastChild, thread.tid === null ? "no such thread yet" : "tid " + thread.tid);
  state(health.firstChild, mark, thread.health);
  const told = [thread.kind && plain(thread.kind), thread.excuse_over_cap && "longer than this may excuse", thread.silent_seconds && "begins no work",
    thread.unobserved && "cannot be observed: " + plain(thread.unobserved)];
  text(health.lastChild, told.filter(Boolean).join(" · "));
  text(work.firstChild, thread.work_key === null ? "–" : thread.work_key);
  text(work.lastChild, [thread.attempt !== null && thread.attempt !== undefined && "attempt " + thread.attempt, thread.section && "section " + thread.section].filter(Boolean).join(" · "));
  text(heartbeat.firstChild, span(thread.heartbeat_age_seconds));
  spark(heartbeat.lastChild, entries.map((entry) => entry.heartbeat), 1000);
  text(age.firstChild, span(thread.work_age_seconds));
  spark(age.lastChild, entries.map((entry) => entry.work), 1000);
  const share = (n) => (n === null || n === undefined ? "–" : (n / 10).toFixed(1) + " %");
  text(cpu.firstChild, share(newest && newest.cpu));
  spark(cpu.lastChild, entries.map((entry) => entry.cpu), 1000);
  text(delay.firstChild, share(newest && newest.delay));
  spark(delay.lastChild, entries.map((entry) => entry.delay), 1000);
  const limit = thread.stall_after_seconds;
  text(counted.firstChild, limit ? span(thread.counted_seconds) + " / " + span(limit).replace(/\.0+ s/, " s") : "not judged");
  set(counted.childNodes[1].lastChild, "width", limit ? (84 * Math.min(1, thread.counted_seconds / limit)).toFixed(1) : 0);
  text(counted.lastChild, thread.idle_at_most_seconds ? "silent " + span(thread.idle_counted_seconds) + " / " + span(thread.idle_at_most_seconds) : "");
  band(last, entries);
}
function showThreads(threads) {
  const byTid = new Map(), byName = new Map();
  for (const one of page.history.values()) { byTid.set(one.name + "\n" + one.tid, one); byName.set(one.name, one); }
  const well = (thread) => (thread.health === "idle" || thread.health === "working") && !thread.unobserved;
  const rank = (thread) => RANK[thread.health] ?? (thread.unobserved ? 3 : 6);
  const found = threads.filter((thread) => thread.name.toLowerCase().includes(page.find) && (page.shown !== "unwell" || !well(thread)));
  found.sort((a, b) => rank(a) - rank(b));
  const shown = page.shown === "worst" ? found.slice(0, WORST) : found;
  for (const thread of shown) {
    thread.history = byTid.get(thread.name + "\n" + thread.tid) || (thread.tid === null ? byName.get(thread.name) : undefined);
  }
  each($("t-rows"), shown, (thread) => thread.name + "\n" + thread.tid, threadRow, fillThread);
  const without = page.without ? " " + count(page.without) + " of them have no history: it is kept for 64." : "";
  const all = shown.length === threads.length ? count(threads.length) + " watched" : count(shown.length) + " of " + count(threads.length) + " shown, the worst first";
  text($("t-note"), threads.length ? all + ", " + count(threads.filter((thread) => !well(thread)).length) + " not well." + without : "No thread is watched.");
  $("t-table").hidden = !shown.length;
}
function choose(shown) {
  page.shown = shown;
  for (const name of ["worst", "unwell", "all"]) set($("t-" + name), "aria-pressed", name === shown);
  if (page.status) showThreads(page.status.threads);
}

// Verdict, channels, safeguards

function facts(parent, pairs) {
  each(parent, pairs.filter(([, value]) => value !== null && value !== undefined && value !== ""), ([name]) => name,
    ([name]) => el("div", null, el("dt", null, name), el("dd")), (node, [, value]) => text(node.lastChild, value));
}
function verdict(word, reason) {
  const [level, form] = VERDICTS[word] || ["none", "ask"], box = $("verdict");
  set(box, "class", "panel verdict " + level);
  if (box.form !== form) { $("v-icon").replaceChildren(shape(form)); box.form = form; }
  text($("v-word"), plain(word));
  text($("v-reason"), reason);
  const shard = page.status ? page.status.shard : "";
  document.title = plain(word) + " · shard " + shard;
  if (page.said !== word) {
    page.said = word;
    text($("live"), "Shard " + shard + ": " + plain(word) + ". " + reason);
    const colour = { ok: "%2300796b", info: "%230a5aa8", warn: "%23c07a00", bad: "%23c23100" }[level] || "%23666";
    $("icon").href = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='" + colour + "' stroke-width='3'><path d='" + SHAPES[form] + "'/></svg>";
  }
}
// Says whether the sidecar is heard. What it does not say now is shown as old, never as live.
function hear(failed) {
  const silent = page.heard ? failed || Date.now() - page.heard > SILENT_AFTER : failed;
  document.body.classList.toggle("silent", silent);
  if (!silent) { text($("heard"), page.heard ? "live" : "asking …"); return; }
  const since = page.heard ? "since " + clock(page.heard + page.skew) + " (" + span(Math.round((Date.now() - page.heard) / 1000)).replace(/\.\d+/, "") + ")" : "";
  text($("heard"), "no answer " + since);
  const told = page.heard ? "The sidecar has not been heard " + since + ". Whether the shard is watched, and how it is, is unknown. It was last " + plain(page.status.verdict) + ". What stands below is as it was then."
    : "The sidecar does not answer.";
  verdict("no answer", told + (page.why ? " " + page.why : ""));
  for (const id of ["v-facts", "v-brakes", "v-links"]) $(id).hidden = true;
  document.querySelectorAll("h2").forEach((node) => set(node, "data-then", page.heard ? clock(page.heard + page.skew) : null));
}
function show() {
  const s = page.status;
  page.why = "";
  hear(false);
  text($("shard"), s.shard);
  text($("version"), s.version);
  for (const id of ["v-facts", "v-brakes", "v-links"]) $(id).hidden = false;
  verdict(s.verdict, s.reason);
  facts($("v-facts"), [["Since", clock(s.since) + ", for " + ago(s.since)], ["Process", s.pid === null ? "none" : "pid " + s.pid],
    ["Incarnation", s.incarnation], ["Mode", s.mode], ["Kills left", s.kills_left]]);
  each($("v-brakes"), s.verdict === "healthy" ? [] : s.no_kill, (brake) => brake.because + brake.why.slice(0, 20), () => el("li"), (node, brake) => text(node, brake.why));
  links($("v-links"), { shard: s.shard, reason: s.verdict, alert: ALERT[s.verdict], from_ms: Date.parse(s.since) - 300000, to_ms: now() });
  showThreads(s.threads);
  each($("c-rows"), s.channels, (one) => one.name, () => el("tr", { role: "row" }, el("th", { role: "rowheader", scope: "row" }), el("td", { role: "cell" }, el("span")),
    ...[1, 2, 3, 4].map(() => el("td", { role: "cell", class: "n" }))), (row, one) => {
    const [name, mark, depth, oldest, sent, received] = row.childNodes;
    set(row, "class", one.late ? "loud warn" : null);
    text(name, one.name);
    state(mark.firstChild, one.late ? ["warn", "warn"] : one.depth ? ["ok", "play"] : ["none", "ring"], one.late ? "late" : one.depth ? "waiting" : "empty");
    text(depth, count(one.depth));
    text(oldest, (one.depth ? span(one.age_seconds) : "–") + (one.max_age_seconds ? " / " + span(one.max_age_seconds) : ""));
    text(sent, count(one.sent));
    text(received, count(one.received));
  });
  $("c-table").hidden = !s.channels.length;
  text($("c-note"), s.channels.length ? "" : "The target publishes no channel.");
  showGuards(s);
}
function showGuards(s) {
  const rows = [], add = (name, value, small, order, level) => rows.push({ name, value, small, order, level });
  add("Killing", s.mode === "enforce" ? "on (enforce)" : "off (observe)", s.kill_by === "signal" ? "by signal" : "by the exit code of the sidecar", null, s.mode === "enforce" ? null : "info");
  if (s.kills_left !== null) {
    add("Budget", s.kills_left + (s.kills_left === 1 ? " kill left" : " kills left"), s.next_kill_in_seconds === null ? "full" : "one more in " + span(Math.ceil(s.next_kill_in_seconds)).replace(/\.0+/, ""), null, s.kills_left ? null : "bad");
  }
  if (s.paused_until) add("Pause", "until " + clock(s.paused_until) + ", by " + s.paused_by, s.paused_reason, command("resume"), "warn");
  else add("Pause", "none", "to stop kills, not the watch:", command('pause --for 10m --reason "WHY"'));
  add("Brake", s.braked ? "on: " + s.kills_without_progress + " kills in a row brought no finished work" : "off", s.kills_without_progress && !s.braked ? s.kills_without_progress + " kills without finished work" : "", s.braked ? command("clear") : null, s.braked ? "bad" : null);
  const keys = s.crash_loop_keys;
  add("Crash loops", keys.length ? "work " + keys.join(", ") : "none", keys.length ? "was in flight at more than one death: nothing is killed for it until" : "", keys.length ? command("clear " + keys[0]) : null, keys.length ? "bad" : null);
  for (const one of s.deadlines) add(plain(one.what), span(one.seconds) + " of " + span(one.at_most_seconds), one.kills ? "then it is condemned" : "", null, "info");
  add("Evidence", s.evidence_trouble || "is written", s.evidence_lacks.join(" "), null, s.evidence_trouble ? "bad" : s.evidence_lacks.length ? "warn" : null);
  const sign = s.heartbeat_out;
  if (sign) {
    add("Dead man's switch", sign.withheld || sign.trouble || "accepted by " + sign.service, (sign.age_seconds === null ? "never accepted" : "last accepted " + span(Math.round(sign.age_seconds)).replace(/\.\d+/, "") + " ago") + " · " + count(sign.sent) + " accepted, " + count(sign.failed) + " not", null, sign.trouble || sign.withheld ? "warn" : null);
  } else add("Dead man's switch", "not configured", "nobody outside would hear that this sidecar is gone ([heartbeat_out])");
  if (s.shadow) add("Shadow policy", plain(s.shadow.verdict) + ": " + s.shadow.reason, "would have killed " + count(s.shadow.would_have_killed) + " times");
  if (s.recorder) add("Recorder", s.recorder.trouble || "records", count(s.recorder.files) + " files in " + s.recorder.directory, null, s.recorder.trouble ? "warn" : null);
  for (const one of s.listeners.filter((one) => !one.listening)) add("http." + one.name, "does not listen", one.trouble, null, "warn");
  const dropped = Object.entries(s.telemetry_dropped).filter(([, n]) => n);
  if (dropped.length) add("Dropped telemetry", dropped.map(([name, n]) => plain(name) + " " + count(n)).join(", "), "", null, "warn");
  const excused = Object.entries(s.excused_seconds).filter(([, n]) => n >= 0.05);
  if (excused.length) add("Excused so far", excused.map(([name, n]) => plain(name) + " " + span(n)).join(", "), "summed over threads, since this sidecar started");
  each($("g-list"), rows, (row) => row.name, (row) => el("div", null, el("dt", null, row.name), el("dd", null, el("span"), el("small"), el("code"))), (node, row) => {
    const [value, small, code] = node.lastChild.childNodes;
    if (row.level) state(value, [row.level, row.level === "info" ? "pause" : row.level === "warn" ? "warn" : "stop"], row.value);
    else { value.form = ""; set(value, "class", null); text(value, row.value); }
    text(small, row.small);
    text(code, row.order);
    small.hidden = !row.small;
    code.hidden = !row.order;
  });
}

// Incidents and near misses

function item(id, open) {
  const node = el("details", { class: "item", id }, el("summary", null, el("time"), el("span"), el("span", { class: "what" }), el("span", { class: "end" })), el("div", { class: "body" }));
  node.addEventListener("toggle", () => { if (node.open) open(node); });
  return node;
}
function head(node, at, mark, word, what, end) {
  const [time, status, why, last] = node.firstChild.childNodes;
  set(time, "datetime", at);
  text(time, clock(at));
  state(status, mark || ["none", "ask"], word);
  text(why, what);
  text(last, end);
}
function showIncidents(incidents) {
  text($("i-note"), incidents.length ? "" : "None is known.");
  each($("i-list"), incidents, (one) => one.id, (one) => {
    const node = item(one.id, story);
    if (location.hash === "#" + one.id) node.open = true;
    return node;
  }, (node, one) => {
    const back = one.durations.fault_to_recovered_ms;
    head(node, one.opened_at, STATUS[one.status], one.status, one.why, back ? "back after " + short(back) : one.mode === "observe" ? "observed only" : "");
    // Stacks may follow the end of the story.
    if (node.open && (one.status === "open" || node.left-- > 0 || one.status !== node.status)) story(node);
    if (one.status !== node.status) [node.status, node.left] = [one.status, 12];
  });
}
async function story(node) {
  let incident;
  try { incident = await ask("/api/v1/incidents/" + encodeURIComponent(node.id), json); } catch (error) {
    if (!node.lastChild.firstChild) text(node.lastChild, "The incident cannot be read now: open it again. " + error.message);
    return;
  }
  if (!node.story) {
    const cell = (name) => el("th", { scope: "col", class: name === "Since progress" || name === "Step took" ? "n" : null }, name);
    node.story = {
      links: el("p", { class: "links" }), target: el("dl", { class: "facts" }), times: el("tbody"), took: el("dl", { class: "facts" }),
      seen: el("ul"), words: el("pre"), frames: el("pre"), files: el("p", { class: "links" }), stack: el("pre", { tabindex: "0", "aria-label": "Stack" }), parts: {},
    };
    const { parts, ...of } = node.story;
    const part = (name, title, body) => (parts[name] = el("div", null, el("h3", null, title), body));
    const stack = el("details", { class: "stack" }, el("summary", null, "Stacks of its threads"), of.stack);
    stack.addEventListener("toggle", () => stack.open && stacks(node.id, of.stack));
    node.lastChild.replaceChildren(of.links, of.target,
      part("times", "Timeline", el("div", { class: "scroll", role: "region", "aria-label": "Timeline", tabindex: "0" }, el("table", { class: "times" },
        el("thead", null, el("tr", null, cell("Since progress"), cell("Step took"), cell("Step"), cell("Detail"))), of.times))),
      part("took", "How long it took", of.took), part("seen", "Observations", of.seen), part("words", "Last words of the process", of.words),
      part("frames", "Where the thread stood in the program's own code", of.frames), stack, part("files", "Files", of.files));
  }
  const of = node.story, thread = incident.thread, took = incident.durations;
  links(of.links, { shard: incident.shard, reason: incident.reason, alert: ALERT[incident.reason], incident: incident.id,
    trace_id: incident.trace && incident.trace.trace_id, from_ms: Date.parse(incident.opened_at) - 300000, to_ms: Date.parse(incident.closed_at || new Date(now())) + 60000 });
  facts(of.target, [["Reason", plain(incident.reason)], ["Mode", incident.mode], ["Process", "pid " + incident.target.pid], ["Thread", thread && thread.name + " (tid " + thread.tid + ")"],
    ["Kind", thread && thread.kind && plain(thread.kind)], ["Work", thread && thread.work_key !== null ? thread.work_key + ", attempt " + thread.attempt : null], ["Section", thread && thread.section],
    ["Traced by", incident.tracer && (incident.tracer.name || "") + " pid " + incident.tracer.pid], ["Trace of the work", thread && thread.trace_id]]);
  let before = null;
  const steps = incident.timeline.map((entry, i) => {
    const step = { ...entry, i, took: entry.since_last_progress_ms === null || before === null ? null : entry.since_last_progress_ms - before };
    before = entry.since_last_progress_ms ?? before;
    return step;
  });
  each(of.times, steps, (step) => step.i + step.step, () => el("tr", null, el("td", { class: "n" }), el("td", { class: "n" }), el("th", { scope: "row" }), el("td")), (row, step) => {
    const [since, took, name, detail] = row.childNodes;
    set(since, "title", step.at);
    text(since, step.since_last_progress_ms === null ? "found later" : short(step.since_last_progress_ms));
    text(took, step.took === null ? "" : "+" + short(step.took));
    text(name, plain(step.step));
    text(detail, step.detail);
  });
  const ms = (us) => (us === null || us === undefined ? null : short(us / 1000));
  facts(of.took, [["fault to verdict", ms(took.last_progress_to_verdict_us)], ["verdict to signal", ms(took.verdict_to_signal_us)], ["signal to dead", ms(took.signal_to_dead_us)],
    ["dead to restarted", took.dead_to_restarted_ms && short(took.dead_to_restarted_ms)], ["restarted to first work", took.restarted_to_recovered_ms && short(took.restarted_to_recovered_ms)], ["all of it", took.fault_to_recovered_ms && short(took.fault_to_recovered_ms)]]);
  each(of.seen, incident.observations.map((line, i) => [i, line]), ([i]) => i, () => el("li"), (row, [, line]) => text(row, line));
  text(of.words, incident.last_words);
  text(of.frames, incident.own_frames.join("\n"));
  const at = "/api/v1/incidents/" + encodeURIComponent(incident.id), has = (step) => incident.timeline.some((entry) => entry.step === step);
  const files = [["incident.json", at], ["threads.json", has("evidence") && at + "/threads.json"], ["stacks.txt", has("stacks") && at + "/stacks.txt"], ["recording", at + "/recording"]];
  each(of.files, files.filter(([, url]) => url), ([name]) => name, ([name, url]) => el("a", { href: url }, name));
  of.parts.took.hidden = !of.took.firstChild;
  of.parts.seen.hidden = !of.seen.firstChild;
  of.parts.words.hidden = !incident.last_words;
  of.parts.frames.hidden = !incident.own_frames.length;
}
async function stacks(id, node) {
  text(node, "reading …");
  try { text(node, await ask("/api/v1/incidents/" + encodeURIComponent(id) + "/stacks.txt", (body) => body)); } catch (error) {
    text(node, error.code === 404 ? "There are none: no minidump was taken (evidence.minidump), or its stacks are not known yet. What the kernel told of each thread is in threads.json." : "They cannot be read now: " + error.message);
  }
}
function showNear(all) {
  text($("n-note"), all.length ? "" : "None is known: no thread has been late since records begin.");
  const newest = [...all].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 20);
  each($("n-list"), newest, (one) => one.id, (one) => item("near-" + one.id, () => {}), (node, one) => {
    head(node, one.at, OUTCOME[one.outcome], one.outcome, one.thread.name + ": no progress for " + span(one.lasted_seconds) + (one.guess ? ", " + one.guess : ""), "limit " + span(one.stall_after_seconds));
    const body = node.lastChild;
    if (!body.firstChild) body.append(el("dl", { class: "facts" }), el("pre", { tabindex: "0", "aria-label": "What the kernel told of the thread" }));
    facts(body.firstChild, [["Thread", one.thread.name + " (tid " + one.thread.tid + ")"], ["Work", one.thread.work_key === null ? null : one.thread.work_key + ", attempt " + one.thread.attempt], ["Section", one.thread.section],
      ["Counted when found", span(one.counted_seconds)], ["Incident", one.incident]]);
    text(body.lastChild, one.evidence ? JSON.stringify(one.evidence, null, 1) : "");
    body.lastChild.hidden = !one.evidence;
  });
}

for (const name of ["worst", "unwell", "all"]) $("t-" + name).addEventListener("click", () => choose(name));
$("t-find").addEventListener("input", (event) => {
  page.find = event.target.value.toLowerCase();
  if (page.status) showThreads(page.status.threads);
});
text($("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
document.addEventListener("visibilitychange", () => { if (!document.hidden) { hear(false); tick(); } });
// An answer that never comes must show too.
setInterval(() => { if (!document.hidden && page.heard && Date.now() - page.heard > SILENT_AFTER) hear(true); }, 1000);
tick();
