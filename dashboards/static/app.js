// The script of every page and of the offline report: draws the figures a page carries, follows a running job,
// refreshes marked parts. No library but Plotly, no inline code, nothing from elsewhere.
"use strict";

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const DEBOUNCE_MS = 300;
const RETRY_MS = 3000;
const MOVED_MS = 40;
const NARROW = 520; // pixels; a legend above so narrow a figure would take half of it
const LEGEND_LINE = 26;
// Plotly's own bar has a button that sends the chart to its makers' server, and one for pictures that the content
// policy refuses; pages have their own.
const OPTIONS = {
  responsive: true, displaylogo: false, doubleClick: "autosize", showSendToCloud: false, plotlyServerURL: "",
  modeBarButtons: [["zoomIn2d", "zoomOut2d", "resetScale2d"]],
};

function embedded(id) {
  const element = document.getElementById(id);
  return element ? JSON.parse(element.textContent) : null;
}

// Replaces every light colour of a figure by its dark partner.
function themed(value, colours) {
  if (typeof value === "string") return colours[value] || value;
  if (Array.isArray(value)) return value.map((item) => themed(item, colours));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, colours)]));
  }
  return value;
}

// The legend as a list under the figure, which grows by as much.
function legendBelow(element, figure) {
  const lines = new Set((figure.data || []).filter((trace) => trace.showlegend !== false && trace.name).map((trace) => trace.legendgroup || trace.name)).size;
  if (lines < 3 || (figure.layout || {}).showlegend === false) return;
  if (!element.dataset.height) Object.assign(element.dataset, { height: element.clientHeight, inline: element.style.height });
  element.style.height = `${Number(element.dataset.height) + LEGEND_LINE * lines}px`;
  const legend = { ...(figure.layout.legend || {}), orientation: "v", x: 0, y: -60 / Number(element.dataset.height) - 0.06, yanchor: "top", maxheight: 1 };
  figure.layout = { ...figure.layout, legend };
}

class Figures {
  constructor(theme, base) {
    this.theme = theme || {};
    this.base = base;
    this.known = {};
    this.drag = "zoom";
    this.turn = 0; // what was brushed is drawn by the server, so Plotly's own selection ends with every drawing
    dark.addEventListener("change", () => this.draw(this.known));
  }

  // `only`: the one figure that has changed.
  draw(figures, only) {
    this.known = figures || {};
    if (!window.Plotly) return;
    for (const element of document.querySelectorAll("[data-figure]")) {
      const figure = this.known[element.dataset.figure];
      if (!figure || (only && element.dataset.figure !== only)) continue;
      if (element.dataset.optional) element.closest("section").hidden = !(figure.data || []).length;
      const shown = themed(figure, dark.matches ? this.theme : {});
      if (brushOf(figure)) shown.layout = { ...shown.layout, dragmode: this.drag, selections: [], selectionrevision: (this.turn += 1) };
      if (element.clientWidth < NARROW) legendBelow(element, shown);
      else if (element.dataset.height) { // the window has grown since
        element.style.height = element.dataset.inline;
        delete element.dataset.height;
      }
      element.classList.toggle("bare", !(figure.data || []).length);
      window.Plotly.react(element, shown.data || [], shown.layout || {}, OPTIONS);
      this.listen(element);
    }
    for (const element of document.querySelectorAll(".js-plotly-plot")) {
      if (element.offsetParent) window.Plotly.Plots.resize(element); // a card that came or went moved the others
    }
  }

  // What dragging over a chart does: "zoom", or "select", which filters all of them.
  dragTo(mode) {
    this.drag = mode;
    for (const element of document.querySelectorAll("[data-figure]")) {
      if (element.layout && brushOf(this.known[element.dataset.figure])) window.Plotly.relayout(element, { dragmode: mode });
    }
  }

  brushed(element, event) {
    if (!event || !event.range || !this.onBrush) return;
    const keys = brushOf(this.known[element.dataset.figure]);
    this.onBrush(Object.entries(keys).map(([axis, key]) => [key, ...[...event.range[axis]].sort((a, b) => a - b)]));
  }

  moved(element, change) {
    if (this.onMove && Object.keys(change).some((key) => /^[xy]axis/.test(key))) this.onMove(partOf(element.layout));
  }

  listen(element) {
    if (!this.base || element.dataset.listening) return;
    element.dataset.listening = "yes";
    element.on("plotly_click", (event) => {
      const number = event.points.map((point) => point.customdata).find((value) => Number.isInteger(value));
      if (number !== undefined) window.location.assign(`${this.base}/trials/${number}`);
    });
    element.on("plotly_selected", (event) => this.brushed(element, event));
    if (element.dataset.figure === "front") element.on("plotly_relayout", (change) => this.moved(element, change));
    element.on("plotly_hover", () => { element.style.cursor = "pointer"; });
    element.on("plotly_unhover", () => { element.style.cursor = ""; });
  }
}

// Which quantities the axes of a figure are that one may brush: {x: key, y: key}, or null.
function brushOf(figure) {
  return (figure && figure.layout && figure.layout.meta && figure.layout.meta.brush) || null;
}

// The part of the plane on view, in the units of the axes; null for all of it.
function partOf(layout) {
  if (!layout.xaxis || !layout.yaxis || layout.xaxis.autorange === true) return null;
  const ends = [layout.xaxis, layout.yaxis].map((axis) => (axis.range || []).map((end) => (axis.type === "log" ? 10 ** end : Number(end))));
  const flat = ends.map((pair) => [...pair].sort((a, b) => a - b)).flat();
  return flat.length === 4 && flat.every(Number.isFinite) ? flat.map((end) => Number(end.toPrecision(6))).join(",") : null;
}

// A picture of a figure is for papers and mails: always in the light colours, on white.
function pictures(figures) {
  for (const button of document.querySelectorAll("[data-png]")) {
    button.hidden = !window.Plotly;
    button.addEventListener("click", async () => {
      const name = button.dataset.png;
      const figure = figures.known[name];
      const element = document.querySelector(`[data-figure="${name}"]`);
      if (!figure || !element) return;
      const { width, height } = element.getBoundingClientRect();
      const layout = { ...figure.layout, paper_bgcolor: "#ffffff", plot_bgcolor: "#ffffff", width, height };
      const drawn = await window.Plotly.toImage({ data: figure.data, layout }, { format: "svg", width, height });
      await savePicture(drawn, width, height, `paretoformer-${name}.png`);
    });
  }
}

// Plotly's own way to a PNG goes over a blob: image, which the content policy refuses; a data: image may be drawn.
async function savePicture(source, width, height, filename) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * width;
  canvas.height = 2 * height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  saveBlob(await new Promise((done) => { canvas.toBlob(done, "image/png"); }), filename);
}

function saveBlob(blob, filename) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Ticked boxes survive a refresh of their table; a fifth one cannot be ticked.
const MOST_COMPARED = 4;

function ticked() {
  return [...document.querySelectorAll("input[form=compare]:checked")].map((box) => box.value);
}

function tick(values) {
  for (const box of document.querySelectorAll("input[form=compare]")) box.checked = values.includes(box.value);
  countTicked();
}

function countTicked() {
  const form = document.getElementById("compare");
  if (!form) return;
  const values = new Set(ticked());
  form.querySelector("button").textContent = values.size ? `Compare ${values.size} ticked` : "Compare the ticked";
  for (const box of document.querySelectorAll("input[form=compare]")) box.disabled = values.size >= MOST_COMPARED && !values.has(box.value);
}

// A page without a server writes the CSV of a chart from its table. A text that a spreadsheet would run is disarmed.
function tables() {
  for (const button of document.querySelectorAll("[data-csv]")) {
    const rows = () => [...document.querySelectorAll(`[data-fragment="twin_${button.dataset.csv}"] tr`)];
    button.hidden = !rows().length;
    const cell = (one) => {
      const text = one.textContent.trim();
      const number = one.classList.contains("number") ? Number(text.replaceAll(",", "")) : NaN;
      if (Number.isFinite(number)) return String(number);
      return `"${(/^[=+\-@\t]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
    };
    button.addEventListener("click", () => {
      const lines = rows().map((row) => [...row.children].map(cell).join(","));
      saveBlob(new Blob([`${lines.join("\r\n")}\r\n`], { type: "text/csv" }), `paretoformer-${button.dataset.csv}.csv`);
    });
  }
}

class LivePage {
  constructor(base, view, figures) {
    this.base = base;
    this.thinned = view.is_thinned;
    this.state = view.job.state;
    this.took = 0;
    figures.onMove = (part) => this.move(part);
    figures.onBrush = (ranges) => this.brush(ranges);
    this.figures = figures;
    this.seq = view.last_seq;
    this.version = view.job.version;
    this.timer = null;
    this.busy = false;
    this.again = false;
    this.choose(view);
    if (!view.over) this.connect();
  }

  // The form of the axes works without this; with it the page stays and its address follows.
  choose(view) {
    this.query = view.query || "";
    this.form = document.getElementById("selection");
    if (!this.form) return;
    const standing = new URLSearchParams(this.query);
    const fields = new FormData(this.form);
    this.usual = Object.fromEntries(["x", "y", "scale"].map((name) => [name, standing.has(name) ? "" : fields.get(name) || ""]));
    const parts = document.querySelectorAll("#selection, #selection [name], [form=selection]");
    for (const part of parts) if (part.matches("button[type=submit]")) part.hidden = true;
    this.form.querySelector("button").hidden = true;
    for (const part of parts) {
      if (part.matches("select, input")) part.addEventListener("change", () => this.takeSelection());
    }
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.takeSelection(); });
    window.addEventListener("popstate", () => window.location.reload());
    const drag = document.getElementById("drag");
    drag.hidden = !window.Plotly;
    drag.addEventListener("click", (event) => { if (event.target.dataset.drag) this.dragTo(event.target.dataset.drag); });
    document.addEventListener("click", (event) => { if (event.target.id === "clear-region") { event.preventDefault(); this.brush(null); } });
  }

  dragTo(mode) {
    for (const button of document.querySelectorAll("[data-drag]")) button.setAttribute("aria-pressed", String(button.dataset.drag === mode));
    this.figures.dragTo(mode);
  }

  // Brushed ends stand in the fields of the filter, which work without this; null takes all of them away.
  brush(ranges) {
    const ends = [...document.querySelectorAll(".region input")];
    if (ranges === null) for (const field of ends) field.value = "";
    for (const [key, low, high] of ranges || []) {
      for (const [end, value] of [["min", low], ["max", high]]) {
        const field = ends.find((one) => one.name === `${end}.${key}`);
        if (field) field.value = String(Number(value.toPrecision(4)));
      }
    }
    this.takeSelection();
  }

  async takeSelection() {
    const before = new URLSearchParams(this.query);
    const now = new URLSearchParams([...new FormData(this.form)].filter(([, value]) => value !== ""));
    const isSamePlane = ["x", "y", "scale"].every((name) => (before.get(name) || this.usual[name]) === (now.get(name) || ""));
    if (isSamePlane && before.get("zoom")) now.set("zoom", before.get("zoom"));
    this.query = `?${now}`;
    await this.refresh();
  }

  // The part on view stands in the address; of a thinned cloud the server chooses anew what is drawn there.
  move(part) {
    const query = new URLSearchParams(this.query);
    if ((query.get("zoom") || null) === part) return;
    if (part) query.set("zoom", part);
    else query.delete("zoom");
    const text = String(query).replaceAll("%2C", ",");
    this.query = text ? `?${text}` : "";
    window.history.replaceState(null, "", `${this.base}${this.query}`);
    for (const link of document.querySelectorAll("a[href*='/charts/']")) link.href = link.href.replace(/(\?.*)?$/, this.query);
    if (!this.thinned) return;
    clearTimeout(this.moving);
    this.moving = setTimeout(() => this.redraw(), MOVED_MS);
  }

  async redraw() {
    const query = this.query;
    try {
      const answer = await fetch(`${this.base}/charts/front.json${query}`, { cache: "no-store" });
      if (!answer.ok || query !== this.query) return;
      const { figure, twin, note } = await answer.json();
      this.figures.draw({ ...this.figures.known, front: figure }, "front");
      document.querySelector("[data-fragment=front_note]").textContent = note;
      document.querySelector("[data-fragment=twin_front]").innerHTML = twin;
    } catch { /* the marks of before stay */ }
  }

  connect() {
    this.source = new EventSource(`${this.base}/events?after=${this.seq}`);
    this.source.onopen = () => this.sayConnected();
    this.source.onerror = () => {
      this.say("reconnecting");
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.connect(), RETRY_MS);
    };
    for (const kind of ["job.state", "trial.created", "trial.state", "trial.measured", "front.changed", "indicators.changed", "warning"]) {
      this.source.addEventListener(kind, (event) => this.take(event));
    }
  }

  take(event) {
    const seq = Number(JSON.parse(event.data).seq);
    if (seq > this.seq) this.seq = seq;
    if (this.timer === null) this.timer = setTimeout(() => { this.timer = null; this.refresh(); }, Math.max(DEBOUNCE_MS, 3 * this.took));
  }

  async refresh() {
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    const began = performance.now();
    const asked = this.query;
    try {
      const answer = await fetch(`${this.base}/view.json${asked}`, { cache: "no-store", headers: { Accept: "application/json" } });
      if (answer.status === 422) this.refuse((await answer.json()).detail);
      else if (!answer.ok) this.say("reconnecting");
      else if (this.query === asked) this.show(await answer.json());
      else this.again = true; // the reader chose something else meanwhile
    } catch {
      this.say("reconnecting");
    } finally {
      this.busy = false;
      this.took = performance.now() - began;
      if (this.again) { this.again = false; this.refresh(); }
    }
  }

  // A filter that is none: what was wrong with it stands where the filter is said.
  refuse(detail) {
    const place = document.querySelector("[data-fragment=region]");
    place.replaceChildren(Object.assign(document.createElement("p"), { className: "problem", textContent: detail }));
    delete place.dataset.shown;
  }

  show(view) {
    const chosen = ticked();
    for (const element of document.querySelectorAll("[data-fragment]")) {
      const html = view.html[element.dataset.fragment];
      if (html !== undefined && html !== element.dataset.shown) {
        element.innerHTML = html;
        element.dataset.shown = html;
      }
    }
    for (const form of document.querySelectorAll("form[data-action]")) form.hidden = !view.actions.includes(form.dataset.action);
    tick(chosen);
    const chip = document.getElementById("state");
    chip.textContent = view.job.state;
    chip.className = `chip ${view.job.state}`;
    this.query = view.query;
    this.state = view.job.state;
    this.thinned = view.is_thinned;
    if (this.source && this.source.readyState === EventSource.OPEN) this.sayConnected();
    window.history.replaceState(null, "", `${this.base}${view.query}${window.location.hash}`);
    for (const link of document.querySelectorAll("a[href*='/charts/']")) link.href = link.href.replace(/(\?.*)?$/, view.query);
    for (const link of document.querySelectorAll("a[href*='/explore']")) link.href = `${this.base}/explore${view.explore}`;
    this.figures.draw(view.figures);
    localTimes();
    if (view.over && this.source && this.seq >= view.last_seq) { // the last events may still be on their way
      this.source.close();
      this.say("ended");
    }
  }

  sayConnected() {
    this.say(this.state === "paused" ? "paused" : "live");
  }

  say(word) {
    const chip = document.getElementById("connection");
    chip.hidden = false;
    chip.textContent = word;
    chip.className = `chip ${word}`;
  }
}

// A part marked data-refresh-every="seconds" is taken anew from the page's own address while it is marked so.
function keepFresh(part) {
  setTimeout(async () => {
    try {
      if (!part.contains(document.activeElement)) await takeAnew(part);
    } catch { /* the next round tries again */ }
    if (part.dataset.refreshEvery) keepFresh(part);
  }, 1000 * Number(part.dataset.refreshEvery));
}

async function takeAnew(part) {
  const answer = await fetch(window.location.href, { cache: "no-store" });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
  if (!answer.ok || !fresh) return;
  part.replaceChildren(...document.importNode(fresh, true).childNodes);
  if (fresh.dataset.refreshEvery) part.dataset.refreshEvery = fresh.dataset.refreshEvery;
  else delete part.dataset.refreshEvery;
  localTimes();
}

function localTimes() {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const element of document.querySelectorAll("time[datetime]")) {
    element.title = element.getAttribute("datetime");
    element.textContent = format.format(new Date(element.getAttribute("datetime")));
  }
}

// The new-job form asks the server what it says and would do, a moment after the last key; the YAML side starts
// as that, and once typed into, it is the user's.
const PAUSE_MS = 700;

class JobForm {
  constructor(form) {
    this.form = form;
    this.area = form.querySelector("textarea");
    this.yaml = document.getElementById("mode-yaml");
    this.state = document.getElementById("preview-state");
    this.own = this.yaml.checked;
    this.turn = 0;
    this.area.addEventListener("input", () => { this.own = this.area.value.trim() !== ""; });
    for (const name of ["input", "change"]) form.addEventListener(name, () => this.soon());
    document.getElementById("preview-button").hidden = true;
    const estimate = document.getElementById("estimate-button");
    estimate.hidden = false;
    estimate.addEventListener("click", (event) => { event.preventDefault(); this.ask(true); });
    this.offerExample();
    this.offerUpload();
    this.ask(false);
  }

  // A file goes up at once; its name in jobs then stands in the field. XMLHttpRequest: fetch tells no progress.
  offerUpload() {
    const input = document.getElementById("upload");
    if (!input) return;
    document.getElementById("upload-field").hidden = false;
    input.addEventListener("change", () => { if (input.files.length) this.send(input.files[0]); });
  }

  send(file) {
    const chip = document.getElementById("upload-state");
    const say = (words, css) => Object.assign(chip, { hidden: false, textContent: words, className: `chip ${css}` });
    const request = new XMLHttpRequest();
    request.open("POST", `/jobs/new/data?name=${encodeURIComponent(file.name.slice(-200))}`);
    request.setRequestHeader("X-Form-Token", this.form.elements.namedItem("csrf").value);
    request.setRequestHeader("Accept", "application/json");
    request.upload.onprogress = (event) => say(`${Math.floor((100 * event.loaded) / event.total)} %`, "running");
    request.onerror = () => say("the server does not answer", "failed");
    request.onload = () => {
      const answer = JSON.parse(request.responseText || "{}");
      if (request.status !== 200) { say(answer.detail || "not taken", "failed"); return; }
      say(`stored as ${answer.dataset.slice(0, 13)}…`, "completed");
      document.getElementById("f.task.dataset").value = answer.dataset;
      this.soon();
    };
    say("0 %", "running");
    request.send(file);
  }

  offerExample() {
    const button = document.getElementById("example");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      this.area.value = embedded("example-text");
      this.own = true;
      this.yaml.checked = true;
      this.area.focus();
      this.soon();
    });
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(false), PAUSE_MS);
  }

  async ask(timed) {
    const turn = ++this.turn;
    const body = new URLSearchParams(new FormData(this.form));
    if (timed) body.set("estimate", "on");
    this.say(timed ? "training a few steps" : "checking", "running");
    try {
      const answer = await fetch("/jobs/new/preview", { method: "POST", body, headers: { Accept: "application/json" } });
      if (turn !== this.turn) return;
      if (!answer.ok) { this.say("no preview now; load the page again", "failed"); return; }
      const said = await answer.json();
      if (said.busy) { this.say("waiting", "reconnecting"); this.timer = setTimeout(() => this.ask(timed), RETRY_MS); return; }
      this.show(said);
    } catch {
      if (turn === this.turn) this.say("the server does not answer", "failed");
    }
  }

  show(answer) {
    if (answer.written) {
      document.getElementById("written").textContent = answer.written;
      document.getElementById("command").textContent = answer.command;
      if (!this.own && !this.yaml.checked) this.area.value = answer.written;
    }
    if (answer.preview) document.getElementById("preview").innerHTML = answer.preview;
    this.say(answer.problems.length ? `${answer.problems.length} problem${answer.problems.length > 1 ? "s" : ""}` : "would run", answer.problems.length ? "failed" : "completed");
    for (const place of this.form.querySelectorAll(".problem")) place.textContent = "";
    for (const field of this.form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    const homeless = [];
    for (const [name, text] of answer.problems) {
      const place = name && document.getElementById(`p.${name}`);
      if (!place || this.yaml.checked) { homeless.push(text); continue; }
      place.textContent = [place.textContent, text.slice(text.indexOf(":") + 1).trim()].filter(Boolean).join("; ");
      const field = document.getElementById(`f.${name}`);
      field.setAttribute("aria-invalid", "true");
      if (field.closest("details")) field.closest("details").open = true;
    }
    this.list(homeless);
  }

  list(problems) {
    const box = document.getElementById("problems");
    box.replaceChildren();
    if (!problems.length) return;
    const banner = document.createElement("div");
    banner.className = "banner bad";
    const list = document.createElement("ul");
    for (const text of problems) list.append(Object.assign(document.createElement("li"), { textContent: text }));
    banner.append(Object.assign(document.createElement("b"), { textContent: "This job cannot run yet." }), list);
    box.append(banner);
  }

  say(words, css) {
    this.state.hidden = false;
    this.state.textContent = words;
    this.state.className = `chip ${css}`;
  }
}

function start() {
  const base = document.body.dataset.job;
  const view = embedded("view");
  if (view) {
    const figures = new Figures(embedded("theme"), base);
    figures.draw(view.figures);
    pictures(figures);
    tables();
    if (base && view.job) new LivePage(base, view, figures);
  }
  localTimes();
  document.addEventListener("change", (event) => { if (event.target.matches("input[form=compare]")) tick(ticked()); });
  countTicked();
  document.querySelectorAll("[data-refresh-every]").forEach(keepFresh);
  const form = document.querySelector("form.job-form");
  if (form) new JobForm(form);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
