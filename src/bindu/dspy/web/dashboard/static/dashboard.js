// Makes the pages live. Without it they say the same when they are loaded again.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const plots = new Map(); // from the element that holds one to its uPlot

// --- Charts: the drawing stays for those who do not see, uPlot is for eyes ---

function drawCharts() {
  for (const [place, plot] of plots) {
    if (!place.isConnected) {
      plot.destroy();
      plots.delete(place);
    }
  }
  for (const figure of document.querySelectorAll("[data-chart]")) drawChart(figure);
}

function drawChart(figure) {
  const drawing = figure.querySelector(".drawing");
  const place = figure.querySelector(".plot");
  if (!window.uPlot || !place) return;
  const points = JSON.parse(figure.parentElement.querySelector(".chart-data").textContent);
  const isBand = figure.dataset.chart === "band";
  const data = isBand ? [points.t, points.low, points.high, points.mid] : [points.t, points.share];
  drawing.classList.add("out");
  const plot = plots.get(place);
  if (plot) {
    plot.points = points;
    plot.setData(data);
    return;
  }
  const made = new uPlot(options(figure, drawing, place, isBand), data);
  made.points = points; // it draws after this task
  place.append(made.root);
  plots.set(place, made);
  resized.observe(place);
}

function options(figure, drawing, place, isBand) {
  const styleOf = (selector) => getComputedStyle(figure.querySelector(selector));
  const stroke = (selector) => () => styleOf(selector).stroke;
  const axis = {
    stroke: () => styleOf(".ticks").fill,
    grid: { stroke: stroke(".grid"), width: 1 },
    ticks: { stroke: stroke(".grid"), width: 1 },
  };
  const signed = (value) => (value > 0 ? "+" : "") + value;
  const told = (_, value) => (value == null ? "–" : signed(+value.toFixed(3)));
  const percent = (value) => `${+(100 * value).toFixed(1)} %`;
  const days = { label: "UTC", value: "{D} {MMM} {HH}:{mm}" };
  const edge = { stroke: stroke(".band"), width: 1, points: { show: false }, value: told };
  const series = isBand
    ? [
        { ...edge, label: "Low" },
        { ...edge, label: "High" },
        { label: "Difference", stroke: stroke(".estimate"), width: 2, points: { show: false }, value: told },
      ]
    : [
        {
          label: "Share",
          stroke: stroke(".shareline"),
          fill: () => styleOf(".share").fill,
          width: 2,
          points: { show: false },
          paths: uPlot.paths.stepped({ align: 1 }),
          value: (_, value) => (value == null ? "–" : percent(value)),
        },
      ];
  return {
    width: place.clientWidth || 600,
    height: isBand ? 260 : 140,
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    scales: { y: { range: isBand ? limits : [0, 1] } },
    series: [days, ...series.map((one) => ({ spanGaps: true, ...one }))],
    axes: [
      { ...axis, space: 70, values: (_, times) => times.map(timeOf) },
      { ...axis, size: 60, values: (_, ticks) => ticks.map(isBand ? signed : percent), space: isBand ? 40 : 25 },
    ],
    bands: isBand ? [{ series: [2, 1], fill: () => styleOf(".band").fill }] : [],
    cursor: { drag: { x: false, y: false } },
    hooks: isBand ? { draw: [(plot) => drawZero(plot, styleOf(".zero")), (plot) => drawMarks(plot, figure)] } : {},
  };
}

const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });

function timeOf(seconds) {
  return (seconds % 86400 ? clock : day).format(seconds * 1000);
}

// The first windows know nothing and would flatten the rest.
function limits(plot) {
  const [, low, high] = plot.data;
  const known = low.map((_, place) => place).filter((place) => low[place] != null);
  const later = known.slice(Math.floor(known.length / 4));
  const least = Math.min(0, ...later.map((place) => low[place]));
  const most = Math.max(0, ...later.map((place) => high[place]));
  const air = Math.max(0.01, (most - least) * 0.06);
  return [least - air, most + air];
}

function drawZero(plot, style) {
  const { ctx, bbox } = plot;
  const y = Math.round(plot.valToPos(0, "y", true));
  ctx.save();
  ctx.strokeStyle = style.stroke;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function drawMarks(plot, figure) {
  const { ctx } = plot;
  for (const [place, verdict] of plot.points?.marks ?? []) {
    const height = plot.data[3].slice(0, place + 1).findLast((value) => value != null) ?? 0;
    const shape = figure.querySelector(`[data-mark="${verdict}"]`);
    if (!shape) continue;
    const style = getComputedStyle(shape);
    ctx.save();
    ctx.translate(plot.valToPos(plot.data[0][place], "x", true), plot.valToPos(height, "y", true));
    ctx.scale(devicePixelRatio, devicePixelRatio);
    const path = new Path2D(shape.getAttribute("d"));
    ctx.lineWidth = 3;
    ctx.strokeStyle = style.stroke;
    ctx.stroke(path);
    ctx.fillStyle = style.fill;
    ctx.fill(path);
    ctx.restore();
  }
}

const resized = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    const plot = plots.get(target);
    if (!target.isConnected) resized.unobserve(target);
    else if (plot && contentRect.width) plot.setSize({ width: contentRect.width, height: plot.height });
  }
});
dark.addEventListener("change", () => {
  for (const plot of plots.values()) plot.redraw();
});
document.addEventListener("htmx:after:swap", drawCharts);
drawCharts();

// --- Live: parts are fetched again when the server says that something changed ---

const live = document.getElementById("live-status");
const REFETCH_EVERY = 1000; // milliseconds, at least
const PATIENCE = 3000; // before a lost connection is worth a word
const AGAIN = 15000; // after the server refused
const OUTDATED = "The experiment has changed: load the page again to act.";

let source = null;
let seen = live?.dataset.pulse ?? null;
let isAway = false;
let isStale = false; // something may have been missed
let isOutdated = false; // the form is about what is no more, and somebody writes in it
let refetchedAt = 0;
let waiting = 0; // timers
let lost = 0;
let again = 0;

function say(text) {
  const said = text || (isOutdated ? OUTDATED : "");
  if (live.textContent !== said) live.textContent = said;
}

// What somebody has begun to write is never taken from them.
function renewForm(swapped) {
  const form = document.getElementById("override-form");
  const now = document.querySelector("[data-trial]:not(#override-form)")?.dataset.trial;
  if (!live || !form || now === undefined) return;
  const isOld = form.dataset.trial !== now;
  const isBegun = Boolean(form.querySelector("textarea")?.value.trim());
  if (isOutdated !== (isOld && isBegun)) {
    isOutdated = isOld && isBegun;
    if (!live.textContent || live.textContent === OUTDATED) say("");
  }
  const part = document.querySelector('[data-part="override"]');
  if (isOld && !isBegun && !part?.contains(swapped)) part?.dispatchEvent(new Event("stale"));
}
document.addEventListener("htmx:after:swap", ({ target }) => renewForm(target));

function refetch() {
  if (waiting) return;
  const due = Math.max(0, refetchedAt + REFETCH_EVERY - Date.now());
  waiting = setTimeout(() => {
    waiting = 0;
    refetchedAt = Date.now();
    for (const part of document.querySelectorAll("[data-part]")) part.dispatchEvent(new Event("changed"));
  }, due);
}

function connect() {
  if (source || document.hidden) return;
  source = new EventSource(live.dataset.events);
  source.addEventListener("open", () => {
    clearTimeout(lost);
    lost = 0;
    if (!isAway) say("");
  });
  source.addEventListener("pulse", ({ data }) => {
    if (isStale || (seen !== null && seen !== data)) refetch();
    isStale = false;
    seen = data;
  });
  source.addEventListener("away", () => {
    isAway = true;
    say(`The database does not answer. This page shows what was known at ${new Date().toLocaleTimeString()}.`);
  });
  source.addEventListener("back", () => {
    isAway = false;
    say("");
    refetch();
  });
  source.addEventListener("ending", () => say("The server stops, or starts anew; what you see may soon be old."));
  source.addEventListener("error", () => {
    isAway = false;
    isStale = true;
    if (source.readyState === EventSource.CLOSED) {
      disconnect();
      again = setTimeout(connect, AGAIN);
      tellWhy();
    } else lose();
  });
}

function lose() {
  lost ||= setTimeout(() => say("The connection is lost. It is tried again; what you see may be old."), PATIENCE);
}

// An EventSource does not tell why it was refused.
async function tellWhy() {
  const asking = new AbortController();
  try {
    const answer = await fetch(live.dataset.events, { signal: asking.signal });
    if (source || document.hidden) return;
    if (answer.status === 401) document.querySelector("[data-part]")?.dispatchEvent(new Event("changed")); // to the sign-in
    else if (answer.headers.get("content-type")?.startsWith("text/plain")) say(await answer.text());
    else if (answer.status >= 400) lose();
  } catch {
    lose();
  } finally {
    asking.abort();
  }
}

function disconnect() {
  clearTimeout(again);
  source?.close();
  source = null;
}

function leave() {
  clearTimeout(lost);
  lost = 0;
  disconnect();
}

if (live?.dataset.events && window.EventSource) {
  // A page that nobody sees needs no connection, of which browsers have six per server.
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : connect()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", connect);
  connect();
}
