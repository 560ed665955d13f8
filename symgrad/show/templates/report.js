"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const last = data.steps.length - 1;

// --- small helpers -----------------------------------------------------------------

/** An HTML element with a class, and children: elements or texts. */
function make(tag, style, ...children) {
  const node = document.createElement(tag);
  if (style) node.className = style;
  node.append(...children.filter((c) => c !== null && c !== ""));
  return node;
}

/** An SVG element with attributes. */
function draw(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** A number for people; null stands for what is not finite. */
function show(value, digits = 5) {
  if (value === null || value === undefined) return "not finite";
  const text = Number(value.toPrecision(digits));
  return Math.abs(text) >= 1e6 || (text !== 0 && Math.abs(text) < 1e-4)
    ? text.toExponential() : String(text);
}

function button(text, label, action) {
  const node = make("button", "", text);
  node.type = "button";
  node.setAttribute("aria-label", label);
  node.addEventListener("click", action);
  return node;
}

// --- charts ------------------------------------------------------------------------

const LEFT = 76, RIGHT = 14, TOP = 12, BOTTOM = 34;

/** Axes over the given ranges; the answer places points. */
function chart(host, label, xs, ys, log, xName, WIDTH = 440, HEIGHT = 270) {
  const svg = draw("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label});
  const f = log ? Math.log10 : (v) => v;
  let [x0, x1] = xs, [y0, y1] = [f(ys[0]), f(ys[1])];
  if (!(x1 > x0)) x1 = x0 + 1;
  if (!(y1 > y0)) { y0 -= 0.5; y1 += 0.5; }
  const pad = log ? 0.03 * (y1 - y0) : 0.06 * (y1 - y0);
  y0 -= pad; y1 += pad;
  const x = (v) => LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - (Math.min(Math.max(f(v), y0 - (y1 - y0)), y1 + (y1 - y0)) - y0)
    / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
  svg.append(draw("path", {class: "axis",
    d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`}));
  for (const k of [0, 0.5, 1]) {
    const v = y0 + pad + k * (y1 - y0 - 2 * pad), value = log ? 10 ** v : v;
    svg.append(draw("text", {x: LEFT - 6, y: y(value) + 4, "text-anchor": "end"}, show(value, 3)));
    const u = x0 + k * (x1 - x0), anchor = k === 0 ? "start" : k === 1 ? "end" : "middle";
    svg.append(draw("text", {x: x(u), y: HEIGHT - BOTTOM + 16, "text-anchor": anchor}, show(u, 3)));
  }
  svg.append(draw("text", {x: WIDTH - RIGHT, y: HEIGHT - 4, "text-anchor": "end"}, xName));
  const id = `clip-${host.id || Math.round(1e9 * Math.random())}`;
  const clip = draw("clipPath", {id});
  clip.append(draw("rect", {x: LEFT, y: 0, width: WIDTH - LEFT, height: HEIGHT - BOTTOM}));
  const inside = draw("g", {"clip-path": `url(#${id})`});
  svg.append(clip, inside);
  host.replaceChildren(svg);
  return {
    x, y, inside,
    line(points, style) {
      const parts = [];
      let pen = "M";
      for (const [u, v] of points) {
        if (u === null || v === null || (log && v <= 0)) { pen = "M"; continue; }
        parts.push(`${pen}${x(u).toFixed(1)} ${y(v).toFixed(1)}`);
        pen = "L";
      }
      if (parts.length) inside.append(draw("path", {class: style, d: parts.join("")}));
    },
    dot(u, v, style, r = 4) {
      if (u === null || v === null || (log && v <= 0)) return;
      inside.append(draw("circle", {class: `dot ${style}`, cx: x(u).toFixed(1), cy: y(v).toFixed(1), r}));
    },
  };
}

function range(values) {
  const known = values.filter((v) => v !== null);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

// --- forward and backward: players over the steps -----------------------------------

const order = {
  forward: data.steps.map((_, k) => k),
  backward: data.steps.map((_, k) => last - k).filter((k) => data.steps[k].adjoint !== null),
};

function forwardPanel(step) {
  const input = step.kind !== "operation";
  const title = input ? `${step.name} is ${step.kind === "data" ? "data" : "a parameter"}`
    : `${step.name} = ${step.formula}`;
  return [
    make("p", "big", title),
    input ? null : make("p", "", `operation: ${step.symbol}`),
    step.numbers ? make("p", "mono", step.shape.length ? `first element: ${step.numbers}` : step.numbers) : null,
    make("p", "mono value", `value ${step.value}`),
    step.shape.length ? make("p", "", `shape ${step.shape.join(" × ")}${step.axes.length ? `, indices ${step.axes.join(", ")}` : ""}`) : null,
    step.shape.length > 1 ? rows(step.rows, step.shape) : null,
  ];
}

function backwardPanel(step, k) {
  const adjoint = `∂${data.loss}/∂${step.name}`;
  const parts = [make("p", "big", `${adjoint} = ${k === last ? "1" : step.adjoint}`)];
  if (k === last) parts.push(make("p", "", "The loss grows by as much as it grows: the backward pass starts with 1."));
  if (step.terms.length) {
    const many = step.terms.length > 1;
    parts.push(make("p", "", many ? `${step.name} is used ${step.terms.length} times; the contributions add up:` : `${step.name} is used once:`));
    const list = make("ul", "");
    for (const term of step.terms) {
      const item = make("li", "mono", `by ${term.from} (${term.symbol}): ${term.formula}`);
      if (term.number !== null) item.append(` = ${term.number}`);
      if (term.rule) item.append(make("br"), make("small", "", `rule ${term.rule}`));
      list.append(item);
    }
    parts.push(list);
  }
  parts.push(make("p", "mono adjoint", `adjoint ${step.adjoint}`));
  if (step.kind === "parameter") parts.push(make("p", "", `${step.name} is a parameter: this is its gradient.`));
  if (step.shape.length > 1) parts.push(rows(step.adjointRows, step.shape));
  return parts;
}

/** The first rows and columns of an array. */
function rows(sample, shape) {
  const body = make("tbody");
  for (const line of sample) body.append(make("tr", "", ...line.map((v) => make("td", "", v))));
  const columns = shape.slice(1).reduce((a, b) => a * b, 1);
  const cut = shape[0] > sample.length || (sample.length && columns > sample[0].length);
  const host = make("div", "scroll", make("table", "", make("caption", "", cut ? "first rows and columns" : "all elements"), body));
  return host;
}

function player(root) {
  const kind = root.dataset.player, path = order[kind];
  const graph = root.querySelector(".graph"), panel = root.querySelector(".panel");
  const cards = new Map();
  const edges = [...root.querySelectorAll(".sg-edge")];
  const all = [...root.querySelectorAll(".sg-card")];
  all.forEach((card, number) => { if (card.dataset.step !== undefined) cards.set(Number(card.dataset.step), [card, number]); });
  let at = 0, timer = null;
  const go = (to, scroll = true) => {
    at = Math.min(Math.max(to, 0), path.length - 1);
    const now = path[at], seen = new Set(path.slice(0, at + 1));
    for (const [k, [card]] of cards) {
      card.classList.toggle("todo", !seen.has(k) && (kind === "forward" || data.steps[k].adjoint !== null));
      card.classList.toggle("now", k === now);
    }
    const found = cards.get(now), end = kind === "forward" ? "to" : "from";
    for (const edge of edges) edge.classList.toggle("now", !!found && Number(edge.dataset[end]) === found[1]);
    if (found && scroll) {
      const box = found[0].getBoundingClientRect(), view = graph.getBoundingClientRect();
      graph.scrollBy({left: box.left + box.width / 2 - view.left - view.width / 2,
        top: box.top + box.height / 2 - view.top - view.height / 2});
    }
    const step = data.steps[now];
    const parts = kind === "forward" ? forwardPanel(step) : backwardPanel(step, now);
    panel.replaceChildren(...parts.filter((p) => p !== null));
    first.disabled = back.disabled = at === 0;
    next.disabled = end_.disabled = at === path.length - 1;
    where.textContent = `step ${at + 1} of ${path.length}`;
    root.dataset.at = at;
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "Play"; };
  const start = () => {
    if (at === path.length - 1) go(0);
    play.textContent = "Pause";
    timer = setInterval(() => { go(at + 1); if (at === path.length - 1) stop(); }, 1100);
  };
  const first = button("|◀", "First step", () => { stop(); go(0); });
  const back = button("◀ Back", "Step back", () => { stop(); go(at - 1); });
  const next = button("Next ▶", "Next step", () => { stop(); go(at + 1); });
  const end_ = button("▶|", "Last step", () => { stop(); go(path.length - 1); });
  const play = button("Play", "Play or pause", () => (timer ? stop() : start()));
  const where = make("span", "where");
  root.querySelector(".controls").append(first, back, next, end_, play, where);
  root.addEventListener("keydown", (event) => {
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: path.length - 1}[event.key];
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    stop();
    go(to);
  });
  for (const [k, [card]] of cards) card.addEventListener("click", () => { const n = path.indexOf(k); if (n >= 0) { stop(); go(n, false); } });
  go(0);
  graph.scrollLeft = kind === "forward" ? 0 : graph.scrollWidth;
}

document.querySelectorAll(".player").forEach(player);

// --- the loss -----------------------------------------------------------------------

$("loss-value").textContent = `${data.loss} = ${data.steps[last].value}`;
for (const curve of data.curves) {
  const host = make("div", "chart");
  host.id = `curve-${$("curves").children.length}`;
  const figure = make("figure", "", host, make("figcaption", "",
    `${data.loss} along ${curve.name}: at ${show(curve.at)} the slope is ${show(curve.slope)}`));
  $("curves").append(figure);
  const span = [curve.x[0], curve.x[curve.x.length - 1]];
  const c = chart(host, `${data.loss} along ${curve.name}`, span, range(curve.y), false, curve.name, 330, 210);
  c.line(curve.x.map((x, k) => [x, curve.y[k]]), "main");
  if (curve.slope !== null && curve.value !== null) {
    const reach = 0.45 * (span[1] - span[0]);
    c.line([-reach, reach].map((d) => [curve.at + d, curve.value + d * curve.slope]), "tangent");
  }
  c.dot(curve.at, curve.value, "now", 5);
}
if (data.count > data.curves.length) {
  $("curves").append(make("p", "note", `The first ${data.curves.length} of ${data.count} components.`));
}

// --- the update ---------------------------------------------------------------------

const rate = $("rate"), stepper = $("step"), play = $("play");
rate.max = data.runs.length - 1;
rate.value = data.start;
const WORDS = {slow: "too small", converging: "right", oscillating: "oscillating", diverging: "too large", unbounded: "no minimum is near"};

/** Where all descents can be compared; what runs away leaves the picture. */
function lossRange() {
  const first = data.runs[0].losses[0];
  const tame = data.runs.filter((r) => r.kind !== "diverging" && r.kind !== "unbounded");
  const values = (tame.length ? tame : data.runs.slice(0, 1)).flatMap((r) => r.losses);
  return range(values.filter((v) => v !== null && v <= first + 2 * Math.abs(first)));
}

const [low, high] = lossRange();
const logarithmic = low > 0 && high > 20 * low;
const floor = logarithmic ? Math.max(low, high * 1e-12) : low;

function lossChart(host, run, at, others) {
  const steps = Math.max(...data.runs.map((r) => r.losses.length)) - 1;
  const c = chart(host, "Loss after each step", [0, steps], [floor, high], logarithmic, "step");
  const line = (r) => r.losses.map((v, k) => [k, v === null ? null : logarithmic ? Math.max(v, floor) : v]);
  if (others) for (const r of data.runs) if (r !== run) c.line(line(r), "other");
  c.line(line(run), "main");
  if (at !== null) c.dot(at, line(run)[at][1], "now", 5);
}

function pathChart(host, run, at) {
  const caption = $("path-caption");
  if (data.map && data.count === 2) {
    const m = data.map, values = m.z.flat().filter((v) => v !== null);
    const [a, b] = range(values);
    caption.textContent = `The path over ${data.names.join(" and ")}; the darker, the larger the loss.`;
    const c = chart(host, "Path of the parameters", [m.x[0], m.x[m.x.length - 1]], [m.y[0], m.y[m.y.length - 1]], false, `${data.names[0]} →, ${data.names[1]} ↑`);
    const dx = m.x[1] - m.x[0], dy = m.y[1] - m.y[0];
    m.y.forEach((y, j) => m.x.forEach((x, i) => {
      const v = m.z[j][i];
      if (v === null) return;
      const level = Math.round(14 * Math.sqrt((v - a) / (b - a || 1))) / 14;
      c.inside.append(draw("rect", {class: "cell", "fill-opacity": (0.62 * level).toFixed(3), x: c.x(x - dx / 2).toFixed(1), y: c.y(y + dy / 2).toFixed(1),
        width: (c.x(x + dx / 2) - c.x(x - dx / 2) + 0.4).toFixed(1), height: (c.y(y - dy / 2) - c.y(y + dy / 2) + 0.4).toFixed(1)}));
    }));
    const points = run.points.slice(0, at + 1);
    c.line(points, "path");
    points.forEach((p, k) => c.dot(p[0], p[1], k === at ? "now" : "", k === at ? 5 : 2.5));
  } else if (data.map) {
    const curve = {x: data.map.x, y: data.map.z[0]}, shown = run.points.slice(0, at + 1);
    caption.textContent = `The descent on the loss as a function of ${data.names[0]}.`;
    const c = chart(host, "Descent on the loss", [curve.x[0], curve.x[curve.x.length - 1]], range(curve.y), false, data.names[0]);
    c.line(curve.x.map((x, k) => [x, curve.y[k]]), "other");
    c.line(shown.map((p, k) => [p[0], run.losses[k]]), "path");
    shown.forEach((p, k) => c.dot(p[0], run.losses[k], k === at ? "now" : "", k === at ? 5 : 2.5));
  } else {
    caption.replaceChildren("The parameters after each step: ", data.names.join(", "), data.count > data.names.length ? `, … (${data.count} in all)` : "");
    const first = run.points[0].map(Math.abs), bound = 20 * Math.max(1, ...first);
    const values = run.points.flat().filter((v) => v !== null && Math.abs(v) < bound);
    const c = chart(host, "Parameters after each step", [0, run.points.length - 1], range(values), false, "step");
    data.names.forEach((_, i) => {
      c.line(run.points.map((p, k) => [k, p[i]]), `trail c${i}`);
      c.dot(at, run.points[at][i], "now", 4);
    });
  }
}

function moves(run, at) {
  const body = $("moves");
  const cells = (...texts) => make("tr", "", ...texts.map((t, k) => make(k ? "td" : "th", k === 2 ? "adjoint" : "", t)));
  if (at >= run.gradients.length) {
    body.replaceChildren(...data.names.map((n, i) => cells(n, show(run.points[at][i]), "", "", "the end")));
    return;
  }
  body.replaceChildren(...data.names.map((name, i) => {
    const g = run.gradients[at][i];
    return cells(name, show(run.points[at][i]), show(g), g === null ? show(g) : show(-run.lr * g), show(run.points[at + 1][i]));
  }));
}

function update(restart) {
  const run = data.runs[Number(rate.value)];
  stepper.max = run.losses.length - 1;
  if (restart) stepper.value = stepper.max;
  const at = Math.min(Number(stepper.value), run.losses.length - 1);
  const text = `${show(run.lr, 3)} (${WORDS[run.kind]})`;
  $("rate-value").textContent = text;
  rate.setAttribute("aria-valuetext", text);
  const where = `${at} of ${run.losses.length - 1}, loss ${show(run.losses[at])}`;
  $("step-value").textContent = where;
  stepper.setAttribute("aria-valuetext", where);
  $("advice").textContent = run.message;
  $("advice").className = run.kind;
  lossChart($("losses"), run, at, true);
  pathChart($("path"), run, at);
  moves(run, at);
}

let timer = null;
function stop() { clearInterval(timer); timer = null; play.textContent = "Play"; }
play.addEventListener("click", () => {
  if (timer) { stop(); return; }
  if (Number(stepper.value) >= Number(stepper.max)) { stepper.value = 0; update(false); }
  play.textContent = "Pause";
  timer = setInterval(() => {
    stepper.value = Number(stepper.value) + 1;
    update(false);
    if (Number(stepper.value) >= Number(stepper.max)) stop();
  }, 140);
});
rate.addEventListener("input", () => { stop(); update(true); });
stepper.addEventListener("input", () => { stop(); update(false); });
update(true);

$("whole-loss").textContent = data.steps[last].value;
lossChart($("whole-chart"), data.runs[data.start], null, false);
})();
