/*
 * What the pages do beyond plain HTML. Every page works without this file; it saves clicks and reloads.
 */

const POLL_LOG_MS = 1000;
const POLL_PAGE_MS = 2000;
const SLOWEST_POLL_MS = 30000;
const MOST_LOG_LINES = 20000;
const SHORTCUTS_KEY = "entrepot-shortcuts";

/* ---------- saying something, also to those who do not see it ---------- */

let sayTimer = 0;

function say(text) {
  const region = document.getElementById("say");
  region.textContent = text;
  region.classList.add("shown");
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => region.classList.remove("shown"), 2500);
}

/* ---------- copying ---------- */

async function copyText(text) {
  // The clipboard API exists in secure contexts only; many installations run on plain http in a local network.
  if (navigator.clipboard && window.isSecureContext) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Refused by the browser's permission: the older way below may still work.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  area.setAttribute("readonly", "");
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  before?.focus({ preventScroll: true });
  return copied;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  if (await copyText(button.dataset.copy)) {
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 2000);
    say("Copied");
  } else {
    say("The browser did not allow copying; select the text and copy it yourself");
  }
});

/* ---------- times ---------- */

const UNITS = [
  ["y", 365 * 86400],
  ["mo", 30 * 86400],
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
];

function relative(moment, now) {
  const seconds = Math.round((now - moment) / 1000);
  const size = Math.abs(seconds);
  if (size < 45) return seconds < 0 ? "in a moment" : "just now";
  const [unit, length] = UNITS.find(([, unitSeconds]) => size >= unitSeconds) ?? ["min", 60];
  const count = Math.max(1, Math.round(size / length));
  return seconds < 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
}

function refreshTimes() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const text = relative(Date.parse(time.dateTime), now);
    if (time.textContent !== text) time.textContent = text;
  }
}

setInterval(refreshTimes, 15000);

/* ---------- asking again and again, gently ---------- */

function poll(task, everyMs) {
  let wait = everyMs;
  const again = async () => {
    if (document.hidden) {
      document.addEventListener("visibilitychange", again, { once: true });
      return;
    }
    try {
      if ((await task()) === "done") return;
      wait = everyMs;
    } catch {
      wait = Math.min(wait * 2, SLOWEST_POLL_MS); // the server is away for a while: ask less and less often
    }
    setTimeout(again, wait);
  };
  setTimeout(again, wait);
}

async function ask(url) {
  const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(15000) });
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response;
}

/* ---------- parts of a page that change while something runs ---------- */

const withoutTimes = (html) => html.replace(/(<time[^>]*>)[^<]*/g, "$1");

function isInUse(part) {
  const active = document.activeElement;
  const selection = document.getSelection();
  if (!selection.isCollapsed && selection.containsNode(part, true)) return true; // somebody is about to copy it
  if (part.contains(active) && active.matches("input, textarea, select, summary")) return true;
  return [...part.querySelectorAll("textarea")].some((area) => area.value !== area.defaultValue);
}

// What has the focus, in words that also find it in the fresh part: links and buttons there have no ids.
function placeOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const tag = element.tagName.toLowerCase();
  return ["href", "data-copy", "value"]
    .filter((name) => element.hasAttribute(name))
    .map((name) => `${tag}[${name}="${CSS.escape(element.getAttribute(name))}"]`)[0];
}

function keepFresh(part) {
  const { id } = part;
  const url = part.dataset.refresh;
  let last = "";
  poll(async () => {
    const html = await (await ask(url)).text();
    const present = document.getElementById(id);
    if (withoutTimes(html) === last || isInUse(present)) return "again";
    const template = document.createElement("template");
    template.innerHTML = html;
    const fresh = template.content.firstElementChild;
    for (const open of present.querySelectorAll("details[open][id]")) {
      fresh.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    }
    const focused = present.contains(document.activeElement) ? placeOf(document.activeElement) : undefined;
    present.replaceWith(fresh);
    if (focused) fresh.querySelector(focused)?.focus({ preventScroll: true });
    last = withoutTimes(html);
    if (fresh.dataset.refresh) return "again";
    if (fresh.dataset.finished) say(fresh.dataset.finished);
    return "done";
  }, POLL_PAGE_MS);
}

for (const part of document.querySelectorAll("[data-refresh]")) keepFresh(part);

/* ---------- logs ---------- */

function markLines() {
  for (const line of document.querySelectorAll(".log-line.marked")) line.classList.remove("marked");
  const [, first, last] = location.hash.match(/^#L(\d+)(?:-L(\d+))?$/) ?? [];
  if (!first) return;
  for (let number = Number(first); number <= Math.min(Number(last ?? first), Number(first) + 2000); number += 1) {
    document.getElementById(`L${number}`)?.classList.add("marked");
  }
  if (last) document.getElementById(`L${first}`)?.scrollIntoView({ block: "center" });
}

function setUpLog(log) {
  const lines = log.querySelector(".log-lines");
  const follow = log.querySelector("[data-follow]");
  const atEnd = () => lines.scrollHeight - lines.scrollTop - lines.clientHeight < 24;
  const toEnd = () => {
    lines.scrollTop = lines.scrollHeight;
  };

  lines.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#L']");
    const first = location.hash.match(/^#L(\d+)/)?.[1];
    if (!link || !event.shiftKey || !first) return;
    event.preventDefault();
    const [low, high] = [Number(first), Number(link.hash.slice(2))].sort((a, b) => a - b);
    history.replaceState(null, "", `#L${low}-L${high}`);
    markLines();
  });

  if (!log.dataset.log) {
    if ("failed" in log.dataset && !location.hash) toEnd(); // why it failed stands near the end
    return;
  }
  if (follow.checked && !location.hash) toEnd();
  lines.addEventListener("scroll", () => {
    follow.checked = atEnd();
  });
  follow.addEventListener("change", () => follow.checked && toEnd());

  const add = (html, next) => {
    if (html) {
      lines.insertAdjacentHTML("beforeend", html);
      while (lines.childElementCount > MOST_LOG_LINES) lines.firstElementChild.remove();
      if (follow.checked) toEnd();
    }
    log.dataset.log = next ?? log.dataset.log;
  };
  const finish = () => {
    for (const sign of log.querySelectorAll("[data-running]")) sign.hidden = true;
  };
  const askAgainAndAgain = () => poll(async () => {
    const response = await ask(log.dataset.log);
    add(await response.text(), response.headers.get("X-Log-Next"));
    if (response.headers.get("X-Log-Complete") !== "yes") return "again";
    finish();
    return "done";
  }, POLL_LOG_MS);

  if (log.dataset.stream && window.EventSource) listen(log, add, finish, askAgainAndAgain);
  else askAgainAndAgain();
}

/* The server's event stream; it ends now and then, and the browser goes on by itself. Where it is refused, `otherwise`. */
function listen(log, add, finish, otherwise) {
  let source;
  const open = () => {
    const url = new URL(log.dataset.stream, location.href);
    url.search = new URL(log.dataset.log, location.href).search; // where the last line shown ends
    source = new EventSource(url);
    source.addEventListener("log", (event) => {
      const { html, next } = JSON.parse(event.data);
      add(html, next);
    });
    source.addEventListener("end", () => {
      stop();
      finish();
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return; // it connects again
      stop();
      otherwise();
    });
  };
  const look = () => {
    source.close();
    if (!document.hidden) open(); // a page that nobody sees takes no place from one that somebody looks at
  };
  const stop = () => {
    source.close();
    document.removeEventListener("visibilitychange", look);
    window.removeEventListener("pagehide", stop);
  };
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", stop);
  open();
}

for (const log of document.querySelectorAll(".log")) setUpLog(log);
window.addEventListener("hashchange", markLines);
markLines();

/* ---------- menus, theme ---------- */

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form.themes");
  if (!form) return;
  event.preventDefault();
  const body = new FormData(form, event.submitter);
  const theme = event.submitter.value;
  const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(body) });
  if (!response.ok) {
    say("The theme could not be kept");
    return;
  }
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const button of form.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
});

/* ---------- keys ---------- */

const GO = { h: "home", p: "pipelines", d: "deployments", a: "approvals", t: "tokens" };
let goTimer = 0;
let going = false;

function shortcutsWanted() {
  try {
    return localStorage.getItem(SHORTCUTS_KEY) !== "off";
  } catch {
    return true; // storage is switched off in this browser
  }
}

const shortcutSwitch = document.getElementById("shortcuts-on");
if (shortcutSwitch) {
  shortcutSwitch.checked = shortcutsWanted();
  shortcutSwitch.addEventListener("change", () => {
    try {
      localStorage.setItem(SHORTCUTS_KEY, shortcutSwitch.checked ? "on" : "off");
    } catch {
      say("This browser keeps no settings");
    }
  });
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
    return;
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !shortcutsWanted()) return;
  if (going) {
    going = false;
    const target = document.querySelector(`a[data-go="${GO[event.key] ?? ""}"]`);
    if (target) {
      event.preventDefault();
      target.click();
    }
  } else if (event.key === "/") {
    event.preventDefault();
    document.getElementById("search")?.focus();
  } else if (event.key === "?") {
    document.getElementById("shortcuts")?.togglePopover();
  } else if (event.key === "g") {
    going = true;
    clearTimeout(goTimer);
    goTimer = setTimeout(() => {
      going = false;
    }, 1500);
  }
});
