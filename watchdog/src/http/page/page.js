// Asks its own sidecar once a second while somebody looks, and only shows. What comes from outside
// becomes text, never markup. Nodes are changed in place: focus, selection and what is open stay.
"use strict";

const ASK_EVERY = 1000, ANSWER_WITHIN = 4000, SILENT_AFTER = 3500, LISTS_EVERY = 5000, WORST = 50;
const $ = (id) => document.getElementById(id);

// Of each word of a verdict, a health, an incident and a near miss: its level and its shape.
const MARKS = {
  healthy: ["ok", "check"], starting: ["info", "clock"], degraded: ["warn", "warn"], excused: ["info", "pause"],
  condemned: ["bad", "stop"], dying: ["bad", "stop"], dead: ["bad", "dead"], restarting: ["warn", "turn"],
  crash_loop: ["bad", "loop"], unguarded: ["bad", "ask"], "no answer": ["bad", "ask"],
  working: ["ok", "play"], late: ["warn", "warn"], stalled: ["bad", "stop"], gone: ["bad", "cross"],
  open: ["bad", "stop"], recovered: ["ok", "check"], interrupted: ["warn", "warn"],
};
const mark = (word) => MARKS[word] || ["none", "ring"];
// The worst first.
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
  thread_gone: "ThreadGone", leader_gone: "ThreadGone", process_gone: "ProcessGone", stalled: "Stalled", channel_lag: "Stalled",
  silent: "Silent", stopped: "Stalled", exit_hung: "Stalled", condemned: "Condemned", requested: "Condemned", dying: "DyingTooLong",
  dead: "RestartSlow", restarting: "RestartSlow", crash_loop: "CrashLoop", degraded: "Degraded", excused: "ExcusedTooLong", unguarded: "WatchdogStuck",
};

const PARTS = ["working", "idle", "excused", "counted", "other"];
const page = { status: null, shown: "worst", find: "", heard: 0, seen: Date.now(), skew: 0, entry: 0, history: new Map(), without: 0, lists: 0, key: "", said: "", why: "" };

// Nodes

function make(node, attributes, kids) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value != null) node.setAttribute(name, value);
  }
  node.append(...kids.filter((kid) => kid != null));
  return node;
}
// Some browsers forget what a table is when its style changes.
const ROLES = { table: "table", tbody: "rowgroup", tr: "row", td: "cell", th: "rowheader" };
function el(name, attributes, ...kids) {
  const [tag, kind] = name.split(".");
  return make(document.createElement(tag), { role: ROLES[tag], class: kind, ...attributes }, kids);
}
const svg = (tag, attributes, ...kids) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, kids);
// Beside each drawing the same stands in words.
const drawing = (attributes, ...kids) => svg("svg", { "aria-hidden": "true", ...attributes }, ...kids);

function text(node, value) {
  const wanted = value == null ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}
function set(node, name, value) {
  if (value == null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// One child of `parent` for each item, by its key, name, id or first part, in their order.
function each(parent, items, build, update) {
  const held = parent.held ||= new Map(), wanted = new Map();
  for (const item of items) {
    let name = String(item.key ?? item.name ?? item.id ?? item[0]);
    while (wanted.has(name)) name += "'";
    wanted.set(name, item);
  }
  for (const [name, node] of held) if (!wanted.has(name)) { node.remove(); held.delete(name); }
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
  return drawing({ viewBox: "0 0 24 24" }, svg("path", { d: SHAPES[name] }));
}
// A shape and a word, of the same node.
function state(node, [level, form], word) {
  if (node.form !== form) {
    node.replaceChildren(el("span.icon", null, shape(form)), " ", el("span"));
    node.form = form;
  }
  text(node.lastChild, word);
  set(node, "class", "state " + level);
}

// Words

const plain = (word) => word.replaceAll("_", " ");
const count = (n) => n.toLocaleString("en-US");
const dots = (words) => words.filter(Boolean).join(" · ");
function span(seconds, rough) {
  if (seconds == null) return "–";
  const s = Math.max(0, seconds), whole = Math.round(s);
  if (s < 60) return (rough ? whole : s.toFixed(s < 10 ? 2 : 1)) + " s";
  const and = (one, large, other, small) => Math.floor(whole / large) + one + Math.floor(whole % large / small) + other;
  return whole < 3600 ? and(" min ", 60, " s", 1) : whole < 86400 ? and(" h ", 3600, " min", 60) : and(" d ", 86400, " h", 3600);
}
const short = (ms) => (ms == null ? "–" : ms < 1 ? ms.toFixed(3) + " ms" : ms < 1000 ? ms.toFixed(1) + " ms" : span(ms / 1000));
const now = () => Date.now() + page.skew;
function clock(at) {
  const time = new Date(at), day = new Date(now());
  const hours = time.toLocaleTimeString("en-GB");
  return time.toDateString() === day.toDateString() ? hours : time.toLocaleDateString("en-GB", { day: "numeric", month: "short" }) + " " + hours;
}
const ago = (at) => span((now() - Date.parse(at)) / 1000, true);

// An address of the config with its placeholders filled in; null if one has no value or the result
// is no address to visit.
function address(template, values) {
  let whole = true;
  const filled = template.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    whole = whole && value != null && !/^\.*$/.test(value);
    return encodeURIComponent(value);
  });
  return whole && /^https?:\/\//.test(filled) ? filled : null;
}
function links(parent, reason, values) {
  values = { shard: page.status.shard, reason, alert: ALERT[reason] && "Shard" + ALERT[reason], ...values };
  const found = Object.entries(page.status.links).map(([name, template]) => [name, address(template, values)]);
  each(parent, found.filter(([, url]) => url), ([name]) => el("a", { rel: "noopener noreferrer", target: "_blank" }, name + " ↗"),
    (node, [, url]) => set(node, "href", url));
}
function command(order) {
  const socket = page.status.listeners.find((one) => one.name === "socket" && one.listening);
  return "shard-watchdog " + order + (socket ?  " --socket '" + socket.address.replaceAll("'", "'\\''") + "'" : " --url " + location.origin + " --token-file FILE");
}

// Asking

async function ask(path, read) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN) })
    .catch(() => ({ status: 0 }));
  if (!answer.ok) throw Object.assign(Error(answer.status ? "It answers " + answer.status + "." : ""), { code: answer.status });
  const date = Date.parse(answer.headers.get("date"));
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
    await lists().catch((error) => text($("i-note"), "The list cannot be read now. " + error.message));
  } catch (error) {
    page.why = error.message;
    hear();
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
  const kept = new Map();
  for (const one of answer.threads) {
    let key = one.name;
    while (kept.has(key)) key += "\n";
    const news = one.length_us.map((_, i) => {
      const entry = Object.fromEntries(Object.entries(one).map(([name, column]) => [name, column && column[i]]));
      entry.kinds = Object.entries(one.excused_us).map(([kind, micros]) => [kind, micros[i]]);
      entry.excused_us = entry.kinds.reduce((sum, [, micros]) => sum + micros, 0);
      return entry;
    });
    const old = partly && page.history.get(key), said = page.entry - answer.entry + news.length;
    const entries = (old ? old.entries.slice(0, said > 0 ? -said : undefined) : []).concat(news).slice(-60);
    kept.set(key, { name: one.name, tid: one.tid, entries });
  }
  Object.assign(page, { history: kept, entry: answer.entry, without: answer.without });
}
// Tenths of a second that add up as the exact numbers do.
function tenths(pairs, all) {
  const cut = pairs.map(([name, micros]) => ({ name, n: Math.floor(micros / 1e5), rest: micros % 1e5 }));
  let left = Math.round(all / 1e5) - cut.reduce((sum, one) => sum + one.n, 0);
  for (const one of [...cut].sort((a, b) => b.rest - a.rest)) if (left > 0) { one.n += 1; left -= 1; }
  return cut.filter((one) => one.n > 0);
}
function band(node, entries) {
  const all = entries.reduce((sum, entry) => sum + entry.length_us, 0), whole = Math.max(all, 60e6), scale = 600 / whole;
  const d = {}, sums = new Map();
  const add = (name, micros) => sums.set(name, (sums.get(name) || 0) + micros);
  let x = 600 - all * scale;
  for (const entry of entries) {
    const end = (x + entry.length_us * scale).toFixed(1);
    let y = 22;
    for (const part of PARTS) {
      const micros = entry[part + "_us"], h = micros / (entry.length_us || 1) * 22;
      if (h) d[part] = `${d[part] || ""}M${x.toFixed(1)} ${y.toFixed(1)}H${end}v${(-h).toFixed(1)}H${x.toFixed(1)}z`;
      y -= h;
      if (part !== "excused") add(part === "other" ? "absent or unread" : part, micros);
      else for (const [kind, of] of entry.kinds) add("excused, " + plain(kind), of);
    }
    x += entry.length_us * scale;
  }
  PARTS.forEach((part, i) => set(node.firstChild.childNodes[i], "d", d[part]));
  text(node.lastChild, tenths([...sums], all).map((one) => one.name + " " + (one.n / 10).toFixed(1) + " s").join(" · ") || "not yet");
}
// From 0 to a second, or to the whole CPU, or more if there is more.
function spark(node, values) {
  const most = Math.max(1000, ...values), from = 60 - values.length;
  let d = "", pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    d += pen + ((from + i) * 84 / 59).toFixed(1) + " " + (19 - value / most * 18).toFixed(1);
    pen = "L";
  });
  set(node.lastChild, "d", d || null);
}

// Threads

function threadRow() {
  const cell = (label, last, kind) => el("td", { class: kind, "data-label": label }, el("span"), last);
  const line = (label) => cell(label, drawing({ class: "spark", viewBox: "0 0 84 20" }, svg("path", { class: "floor", d: "M0 19.5h84" }), svg("path")), "n");
  return el("tr", null, el("th", null, el("span"), el("small")), cell("Health", el("small")), cell("Work", el("small")),
    line("Heartbeat age"), line("Work age"), line("CPU"), line("Run delay"),
    el("td.n", { "data-label": "Counted" }, el("span"), drawing({ class: "meter", viewBox: "0 0 84 6", preserveAspectRatio: "none" },
      svg("rect", { class: "idle", width: 84, height: 6 }), svg("rect", { class: "counted", height: 6 })), el("small")),
    el("td.band-cell", { "data-label": "The last minute" }, drawing({ class: "band", viewBox: "0 0 600 22", preserveAspectRatio: "none" },
      ...PARTS.map((part) => svg("path", { class: part }))), el("small")));
}
function fillThread(row, t) {
  const [name, health, work, , , , , counted, last] = row.childNodes;
  const entries = t.history ? t.history.entries : [], newest = entries[entries.length - 1] || {};
  const looks = mark(t.health), limit = t.stall_after_seconds;
  set(row, "class", /ok|none/.test(looks[0]) ? null : "loud " + looks[0]);
  const both = (cell, first, ...rest) => { text(cell.firstChild, first); text(cell.lastChild, dots(rest)); };
  both(name, t.name, t.tid === null ? "no such thread yet" : "tid " + t.tid);
  state(health.firstChild, looks, t.health);
  text(health.lastChild, dots([t.kind && plain(t.kind), t.excuse_over_cap && "for too long", t.silent_seconds && "begins no work",
    t.unobserved && "cannot be observed: " + plain(t.unobserved)]));
  both(work, t.work_key ?? "–", t.attempt !== null && "attempt " + t.attempt, t.section && "section " + t.section);
  const share = (n) => (n == null ? "–" : (n / 10).toFixed(1) + " %");
  [["heartbeat_age_ms", span(t.heartbeat_age_seconds)], ["work_age_ms", span(t.work_age_seconds)], ["cpu_permille", share(newest.cpu_permille)],
    ["run_delay_permille", share(newest.run_delay_permille)]].forEach(([column, said], i) => {
    const cell = row.childNodes[3 + i];
    text(cell.firstChild, said);
    spark(cell.lastChild, entries.map((entry) => entry[column]));
  });
  both(counted, limit ? span(t.counted_seconds) + " / " + span(limit, limit % 1 === 0) : "not judged",
    t.idle_at_most_seconds && "silent " + span(t.idle_counted_seconds) + " / " + span(t.idle_at_most_seconds));
  set(counted.childNodes[1].lastChild, "width", limit ? (84 * Math.min(1, t.counted_seconds / limit)).toFixed(1) : 0);
  band(last, entries);
}
function showThreads(threads) {
  const key = (one) => one.name + "\n" + one.tid, histories = new Map([...page.history.values()].map((one) => [key(one), one]));
  const well = (thread) => (thread.health === "idle" || thread.health === "working") && !thread.unobserved;
  const rank = (thread) => RANK[thread.health] ?? (thread.unobserved ? 3 : 6);
  const found = threads.filter((thread) => thread.name.toLowerCase().includes(page.find) && (page.shown !== "unwell" || !well(thread)));
  found.sort((a, b) => rank(a) - rank(b));
  const shown = page.shown === "worst" ? found.slice(0, WORST) : found;
  for (const thread of shown) thread.history = histories.get(thread.key = key(thread));
  each($("t-rows"), shown, threadRow, fillThread);
  const without = page.without ? " " + count(page.without) + " have no history: 64 have one." : "";
  const all = (shown.length < threads.length ? "Shown: " + count(shown.length) + " of " : "") + count(threads.length) + " watched";
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
  each(parent, pairs.filter(([, value]) => value != null && value !== ""), ([name]) => el("div", null, el("dt", null, name), el("dd")), (node, [, value]) => text(node.lastChild, value));
}
function verdict(word, reason) {
  const [level, form] = mark(word), box = $("verdict");
  set(box, "class", "panel verdict " + level);
  if (box.form !== form) { $("v-icon").replaceChildren(shape(form)); box.form = form; }
  text($("v-word"), plain(word));
  text($("v-reason"), reason);
  const shard = page.status ? page.status.shard : "";
  document.title = plain(word) + " · shard " + shard;
  if (page.said !== word) {
    page.said = word;
    text($("live"), "Shard " + shard + ": " + plain(word) + ". " + reason);
    const colour = { ok: "008", info: "06c", warn: "b70", bad: "d30" }[level] || "666";
    $("icon").href = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' stroke='%23" + colour + "' stroke-width='3'><path d='" + SHAPES[form] + "'/></svg>";
  }
}
// What the sidecar does not say now is shown as old, never as live.
function hear() {
  const last = page.heard && clock(page.heard + page.skew), since = last ? " since " + last + " (" + span((Date.now() - page.heard) / 1000, true) + ")" : "";
  document.body.classList.add("silent");
  text($("heard"), "no answer" + since);
  verdict("no answer", "The sidecar " + (last ? "has not answered" : "does not answer") + since + ". Whether the shard is watched, and how it is, is unknown. "
    + (last ? "It was last " + plain(page.status.verdict) + "; what stands below is as it was then. " : "") + page.why);
  $("v-now").hidden = true;
  for (const node of document.querySelectorAll("h2")) set(node, "data-then", last || null);
}
function show() {
  const s = page.status;
  page.why = "";
  document.body.classList.remove("silent");
  text($("heard"), "live");
  text($("shard"), s.shard);
  text($("version"), s.version);
  $("v-now").hidden = false;
  verdict(s.verdict, s.reason);
  facts($("v-facts"), [["Since", clock(s.since) + ", for " + ago(s.since)], ["Process", s.pid === null ? "none" : "pid " + s.pid],
    ["Incarnation", s.incarnation], ["Mode", s.mode], ["Kills left", s.kills_left]]);
  each($("v-brakes"), s.verdict === "healthy" ? [] : s.no_kill.entries(), () => el("li"), (node, [, brake]) => text(node, brake.why));
  links($("v-links"), s.verdict, { from_ms: Date.parse(s.since) - 300000, to_ms: now() });
  showThreads(s.threads);
  each($("c-rows"), s.channels, () => el("tr", null, el("th"), el("td", null, el("span")),
    ...[1, 2, 3, 4].map(() => el("td.n"))), (row, one) => {
    const [name, is, depth, oldest, sent, received] = row.childNodes;
    set(row, "class", one.late ? "loud warn" : null);
    text(name, one.name);
    state(is.firstChild, one.late ? ["warn", "warn"] : one.depth ? ["ok", "play"] : ["none", "ring"], one.late ? "late" : one.depth ? "waiting" : "empty");
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
  const rows = [], keys = s.crash_loop_keys, sign = s.heartbeat_out;
  const add = (name, value, small, level, order) => rows.push({ name, value, small, level, order: order && command(order) });
  if (s.kills_left !== null) {
    const more = s.next_kill_in_seconds === null ? "full" : "one more in " + span(Math.ceil(s.next_kill_in_seconds), true);
    add("Budget", s.kills_left + (s.kills_left === 1 ? " kill left" : " kills left"), more, !s.kills_left && "bad");
  }
  if (s.paused_until) add("Pause", "until " + clock(s.paused_until) + ", by " + s.paused_by, s.paused_reason, "warn", "resume");
  else add("Pause", "none", "to stop kills, not the watch:", null, 'pause --for 10m --reason "WHY"');
  const brought = s.kills_without_progress + " kills in a row without finished work";
  if (s.braked) add("Brake", "on: " + brought, "no kill until", "bad", "clear");
  else add("Brake", "off", s.kills_without_progress && brought);
  if (keys.length) add("Crash loops", "work " + keys.join(", "), "in flight at more than one death: no kill for it until", "bad", "clear " + keys[0]);
  else add("Crash loops", "none");
  add("Evidence", s.evidence_trouble || "is written", s.evidence_lacks.join(" "), s.evidence_trouble ? "bad" : s.evidence_lacks.length && "warn");
  if (sign) {
    const last = sign.age_seconds === null ? "never accepted" : "last accepted " + span(sign.age_seconds, true) + " ago";
    add("Dead man's switch", sign.withheld || sign.trouble || "accepted by " + sign.service, last + " · " + count(sign.sent) + " accepted, " + count(sign.failed) + " not", (sign.trouble || sign.withheld) && "warn");
  } else add("Dead man's switch", "not configured", "nobody would hear that this sidecar has ended");
  each($("g-list"), rows, (row) => el("div", null, el("dt", null, row.name), el("dd", null, el("span"), el("small"), el("code"))), (node, row) => {
    const [value, small, code] = node.lastChild.childNodes;
    if (row.level) state(value, [row.level, row.level === "warn" ? "warn" : "stop"], row.value);
    else { value.form = ""; set(value, "class"); text(value, row.value); }
    text(small, row.small || "");
    text(code, row.order || "");
  });
}

// Incidents and near misses

function item(id, open) {
  const node = el("details.item", { id }, el("summary", null, el("time"), el("span"), el("span.what"), el("span.end")), el("div.body"));
  node.addEventListener("toggle", () => { if (node.open) open(node); });
  return node;
}
function head(node, at, word, what, end) {
  const [time, status, why, last] = node.firstChild.childNodes;
  set(time, "datetime", at);
  text(time, clock(at));
  state(status, mark(word), word);
  text(why, what);
  text(last, end);
}
const faulty = (thread) => (thread ? [["Thread", thread.name + " (tid " + thread.tid + ")"], ["Kind", thread.kind && plain(thread.kind)],
  ["Work", thread.work_key && thread.work_key + ", attempt " + thread.attempt], ["Section", thread.section], ["Trace of the work", thread.trace_id]] : []);
function showIncidents(incidents) {
  text($("i-note"), incidents.length ? "" : "None is known.");
  each($("i-list"), incidents, (one) => item(one.id, story), (node, one) => {
    const back = one.durations.fault_to_recovered_ms;
    head(node, one.opened_at, one.status, one.why, back ? "back after " + short(back) : one.mode);
    // Stacks may follow the end of the story.
    if (node.open && (one.status === "open" || node.left-- > 0 || one.status !== node.status)) story(node);
    if (one.status !== node.status) [node.status, node.left] = [one.status, 12];
  });
}
const at = (id) => "/api/v1/incidents/" + encodeURIComponent(id);
async function story(node) {
  let incident;
  try { incident = await ask(at(node.id), json); } catch (error) {
    if (!node.lastChild.firstChild) text(node.lastChild, "It cannot be read now. " + error.message);
    return;
  }
  if (!node.story) {
    const of = node.story = { parts: {} };
    for (const name of ["times", "seen", "words", "frames", "files", "links", "target"]) of[name] = el({ times: "tbody", seen: "ul", words: "pre", frames: "pre", target: "dl" }[name] || "p");
    of.links.className = of.files.className = "links";
    of.target.className = "facts";
    const part = (name, title, body) => (of.parts[name] = el("div", null, el("h3", null, title), body || of[name]));
    const text = el("pre", { tabindex: 0, "aria-label": "Stacks" }), stack = el("details.stack", null, el("summary", null, "Stacks of its threads"), text);
    stack.addEventListener("toggle", () => stack.open && stacks(node.id, text));
    const titles = ["Since progress.n", "Took.n", "Step", "Detail"].map((title) => el("th" + (title.match(/\.n/) || ""), { role: "columnheader" }, title.split(".")[0]));
    node.lastChild.replaceChildren(of.links, of.target,
      part("times", "Timeline", el("div.scroll", { role: "group", "aria-label": "Timeline", tabindex: 0 }, el("table.times", null, el("thead", null, el("tr", null, ...titles)), of.times))),
      part("seen", "Observations"), part("words", "Last words of the process"), part("frames", "Where the thread stood in the program's own code"), stack, part("files", "Files"));
  }
  const of = node.story;
  links(of.links, incident.reason, { incident: incident.id, trace_id: incident.trace && incident.trace.trace_id, from_ms: Date.parse(incident.opened_at) - 300000, to_ms: Date.parse(incident.closed_at || new Date(now())) + 60000 });
  facts(of.target, [["Reason", plain(incident.reason)], ["Mode", incident.mode], ["Process", "pid " + incident.target.pid], ...faulty(incident.thread),
    ["Traced by", incident.tracer && (incident.tracer.name || "") + " pid " + incident.tracer.pid]]);
  let before = null;
  each(of.times, incident.timeline.entries(), () => el("tr", null, el("td.n"), el("td.n"), el("th"), el("td")), (row, [, step]) => {
    const [since, took, name, detail] = row.childNodes, ms = step.since_last_progress_ms;
    set(since, "title", step.at);
    text(since, ms === null ? "found later" : short(ms));
    text(took, ms === null || before === null ? "" : "+" + short(ms - before));
    before = ms ?? before;
    text(name, plain(step.step));
    text(detail, step.detail);
  });
  each(of.seen, incident.observations.entries(), () => el("li"), (row, [, line]) => text(row, line));
  text(of.words, incident.last_words);
  text(of.frames, incident.own_frames.join("\n"));
  const url = at(incident.id), has = (step) => incident.timeline.some((entry) => entry.step === step);
  const files = [["incident.json", url], ["threads.json", has("evidence") && url + "/threads.json"], ["stacks.txt", has("stacks") && url + "/stacks.txt"], ["recording", url + "/recording"]];
  each(of.files, files.filter((file) => file[1]), ([name, href]) => el("a", { href }, name));
  for (const [name, part] of Object.entries(of.parts)) part.hidden = !of[name].firstChild;
}
async function stacks(id, node) {
  text(node, "reading …");
  try { text(node, await ask(at(id) + "/stacks.txt", (body) => body)); } catch (error) {
    text(node, error.code === 404 ? "None: no minidump was taken (evidence.minidump), or it was not looked up. See threads.json." : "They cannot be read now. " + error.message);
  }
}
function showNear(all) {
  text($("n-note"), all.length ? "" : "None is known.");
  const newest = [...all].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, 20);
  each($("n-list"), newest, (one) => item("near-" + one.id, () => {}), (node, one) => {
    head(node, one.at, one.outcome, one.thread.name + ": no progress for " + span(one.lasted_seconds) + (one.guess ? ", " + one.guess : ""), "limit " + span(one.stall_after_seconds));
    const body = node.lastChild;
    if (!body.firstChild) body.append(el("dl.facts"), el("pre", { tabindex: "0", "aria-label": "What the kernel told of the thread" }));
    facts(body.firstChild, [...faulty(one.thread), ["Counted when found", span(one.counted_seconds)], ["Incident", one.incident]]);
    text(body.lastChild, one.evidence && JSON.stringify(one.evidence, null, 1));
  });
}

for (const name of ["worst", "unwell", "all"]) $("t-" + name).addEventListener("click", () => choose(name));
$("t-find").addEventListener("input", (event) => {
  page.find = event.target.value.toLowerCase();
  if (page.status) showThreads(page.status.threads);
});
text($("zone"), Intl.DateTimeFormat().resolvedOptions().timeZone);
document.addEventListener("visibilitychange", () => {
  page.seen = Date.now();
  if (page.seen - page.heard > SILENT_AFTER) {
    document.body.classList.add("silent");
    for (const id of ["heard", "v-word"]) text($(id), "asking …");
  }
  tick();
});
// An answer that never comes must show too.
setInterval(() => { if (!document.hidden && Date.now() - Math.max(page.heard, page.seen) > SILENT_AFTER) hear(); }, 1000);
for (const [tag, role] of Object.entries(ROLES)) {
  for (const node of document.querySelectorAll(tag)) set(node, "role", tag === "th" ? "columnheader" : role);
}
tick();
