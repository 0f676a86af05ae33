// The page of all trials: parallel coordinates and the cloud on canvases, both linked with the fields of the form,
// whose state is the address. Without this script the form and the table do the same. No WebGL: it needs eval.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("explore-data").textContent);
  const form = document.getElementById("filters");
  const dimensions = data.dimensions;
  const TABLE_ROWS = 50;
  const HEIGHT = 360;
  const TOP = 46;
  const BOTTOM = 22;
  const filters = {};
  let cloud = { dots: [], columns: {} };
  let hovered = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const place = (key) => dimensions.findIndex((one) => one.key === key);

  // ---- scales -------------------------------------------------------------------------------------------

  function scaleOf(dimension, values) {
    if (dimension.names.length) return { low: -0.5, high: dimension.names.length - 0.5, log: false };
    const known = values.filter((value) => value !== null && Number.isFinite(value));
    const log = dimension.log && known.length > 0 && known.every((value) => value > 0);
    let low = known.reduce((a, b) => Math.min(a, b), Infinity);
    let high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!known.length) { low = 0; high = 1; }
    if (low === high) { low -= Math.abs(low) / 10 || 1; high += Math.abs(high) / 10 || 1; }
    const pad = log ? Math.pow(high / low, 0.03) : 0.03 * (high - low);
    const whole = known.every(Number.isInteger);
    return log ? { low: low / pad, high: high * pad, log } : { low: low - pad, high: high + pad, log, whole };
  }

  const part = (scale, value) => scale.log
    ? Math.log(value / scale.low) / Math.log(scale.high / scale.low)
    : (value - scale.low) / (scale.high - scale.low);
  const unpart = (scale, share) => scale.log
    ? scale.low * Math.pow(scale.high / scale.low, share)
    : scale.low + share * (scale.high - scale.low);

  const words = (value) => value === null || !Number.isFinite(value) ? "–" : String(Number(value.toPrecision(4)));

  function ticks(scale) {
    if (scale.log) {
      const found = [];
      for (let power = Math.floor(Math.log10(scale.low)); power <= Math.log10(scale.high); power += 1) {
        for (const digit of [1, 2, 5]) {
          const value = digit * 10 ** power;
          if (value >= scale.low && value <= scale.high) found.push(value);
        }
      }
      if (found.length > 1) return found.length > 7 ? found.filter((value) => String(value.toExponential()).startsWith("1")) : found;
    }
    const raw = (scale.high - scale.low) / 7;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((digit) => digit * power).find((value) => value >= raw && (!scale.whole || value >= 1)) || 1;
    const found = [];
    for (let value = Math.ceil(scale.low / step) * step; value <= scale.high; value += step) found.push(Number(value.toPrecision(12)));
    return found;
  }

  // ---- filters: the form is the truth --------------------------------------------------------------------

  function readForm() {
    for (const key of Object.keys(filters)) delete filters[key];
    for (const dimension of dimensions) {
      if (dimension.names.length) {
        const chosen = [...form.querySelectorAll(`input[name="in.${dimension.key}"]:checked`)].map((box) => box.value);
        if (chosen.length) filters[dimension.key] = { names: new Set(chosen.map((name) => dimension.names.indexOf(name))) };
      } else {
        const [low, high] = ["min", "max"].map((end) => form.elements.namedItem(`${end}.${dimension.key}`).value.trim());
        const range = { low: low === "" ? -Infinity : Number(low), high: high === "" ? Infinity : Number(high) };
        if (Number.isNaN(range.low)) range.low = -Infinity;
        if (Number.isNaN(range.high)) range.high = Infinity;
        if (range.low > -Infinity || range.high < Infinity) filters[dimension.key] = range;
      }
    }
  }

  function setRange(key, low, high) {
    const dimension = dimensions[place(key)];
    if (dimension.names.length) {
      for (const box of form.querySelectorAll(`input[name="in.${key}"]`)) {
        const index = dimension.names.indexOf(box.value);
        box.checked = low !== null && index >= low - 0.001 && index <= high + 0.001;
      }
    } else {
      form.elements.namedItem(`min.${key}`).value = low === null ? "" : words(low);
      form.elements.namedItem(`max.${key}`).value = high === null ? "" : words(high);
    }
  }

  function passes(key, value) {
    const filter = filters[key];
    if (!filter) return true;
    if (value === null || value === undefined || Number.isNaN(value)) return false;
    return filter.names ? filter.names.has(value) : value >= filter.low && value <= filter.high;
  }

  const admitted = (row) => dimensions.every((dimension, index) => passes(dimension.key, row.values[index]));

  function address() {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (value !== "" && !(name === "x" && value === data.x0) && !(name === "y" && value === data.y0)) query.append(name, value);
    }
    return query.toString();
  }

  // ---- canvases ------------------------------------------------------------------------------------------

  function prepared(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colour("surface");
    context.fillRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    return context;
  }

  const parallel = document.getElementById("parallel");
  const scales = dimensions.map((dimension, index) => scaleOf(dimension, data.rows.map((row) => row.values[index])));

  function axisX(index, width) {
    return 88 + index * (width - 140) / Math.max(1, dimensions.length - 1);
  }

  function drawParallel() {
    const width = Math.max(parallel.parentElement.clientWidth, 94 * dimensions.length);
    const context = prepared(parallel, width, HEIGHT);
    const y = (index, value) => HEIGHT - BOTTOM - part(scales[index], value) * (HEIGHT - TOP - BOTTOM);
    const kinds = { out: [], other: [], reference: [], front: [] };
    for (const row of data.rows) {
      const kind = !admitted(row) ? "out" : row.number < 0 ? "reference" : row.front ? "front" : "other";
      kinds[kind].push(row);
    }
    const many = kinds.other.length > 300;
    const looks = {
      out: ["line", 0.35, 1, []], other: ["cloud", many ? 0.25 : 0.6, 1, []],
      reference: ["reference", 0.8, 1.4, [5, 3]], front: ["accent", 1, 2.2, []],
    };
    for (const [kind, [name, opacity, thick, dash]] of Object.entries(looks)) {
      context.strokeStyle = colour(name);
      context.globalAlpha = opacity;
      context.lineWidth = thick;
      context.setLineDash(dash);
      for (const row of kinds[kind]) drawLine(context, row, y, width);
    }
    context.globalAlpha = 1;
    context.setLineDash([]);
    dimensions.forEach((dimension, index) => drawAxis(context, dimension, index, width, y));
    keep(parallel);
    if (hovered && hovered.values) {
      context.strokeStyle = colour("highlight");
      context.lineWidth = 3;
      drawLine(context, hovered, y, width);
    }
  }

  // What is drawn without the pointer, so that a moving pointer draws only itself.
  const kept = new Map();

  function keep(target) {
    const copy = document.createElement("canvas");
    Object.assign(copy, { width: target.width, height: target.height });
    copy.getContext("2d").drawImage(target, 0, 0);
    kept.set(target, copy);
  }

  function again(target) {
    const context = target.getContext("2d");
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(kept.get(target), 0, 0);
    context.restore();
    return context;
  }

  function drawPointer() {
    if (!view || !kept.has(parallel)) return;
    const lines = again(parallel);
    if (hovered && hovered.values) {
      const width = parallel.clientWidth;
      lines.strokeStyle = colour("highlight");
      lines.lineWidth = 3;
      drawLine(lines, hovered, (index, value) => HEIGHT - BOTTOM - part(scales[index], value) * (HEIGHT - TOP - BOTTOM), width);
    }
    const dots = again(canvas);
    if (hovered) drawHover(dots);
  }

  function drawLine(context, row, y, width) {
    context.beginPath();
    let open = false;
    row.values.forEach((value, index) => {
      if (value === null) { open = false; return; }
      context[open ? "lineTo" : "moveTo"](axisX(index, width), y(index, value));
      open = true;
    });
    context.stroke();
  }

  function drawAxis(context, dimension, index, width, y) {
    const x = axisX(index, width);
    const filter = filters[dimension.key];
    context.strokeStyle = colour("muted");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, TOP);
    context.lineTo(x, HEIGHT - BOTTOM);
    context.stroke();
    context.textAlign = "center";
    context.fillStyle = colour(filter ? "highlight" : "ink");
    context.font = `${filter ? 600 : 500} 12px system-ui, sans-serif`;
    wrapped(context, (filter ? "▾ " : "") + dimension.title, x, 14);
    context.font = "11px system-ui, sans-serif";
    const labels = dimension.names.length
      ? dimension.names.map((name, at) => [at, name])
      : ticks(scales[index]).map((value) => [value, words(value)]);
    context.textAlign = "right";
    for (const [value, text] of labels) {
      const at = y(index, value);
      context.strokeStyle = colour("muted");
      context.beginPath();
      context.moveTo(x - 4, at);
      context.lineTo(x, at);
      context.stroke();
      const measure = Math.min(84, context.measureText(text).width);
      context.fillStyle = colour("surface");
      context.globalAlpha = 0.75;
      context.fillRect(x - 8 - measure, at - 7, measure + 3, 14);
      context.globalAlpha = 1;
      context.fillStyle = colour("muted");
      context.fillText(text, x - 6, at + 4, 84);
    }
    if (!filter) return;
    const ends = filter.names ? [Math.min(...filter.names) - 0.4, Math.max(...filter.names) + 0.4] : [filter.low, filter.high];
    const [low, high] = ends.map((end, at) => Number.isFinite(end) ? end : at ? scales[index].high : scales[index].low);
    context.fillStyle = colour("highlight");
    context.globalAlpha = 0.22;
    const [top, bottom] = [Math.max(TOP, y(index, high)), Math.min(HEIGHT - BOTTOM, y(index, low))];
    context.fillRect(x - 7, top, 14, bottom - top);
    context.globalAlpha = 1;
    context.strokeStyle = colour("highlight");
    context.strokeRect(x - 7, top, 14, bottom - top);
  }

  function wrapped(context, text, x, y) {
    const parts = text.split(" ");
    const lines = [""];
    for (const word of parts) {
      const last = lines.length - 1;
      if (lines[last] && context.measureText(`${lines[last]} ${word}`).width > 96) lines.push(word);
      else lines[last] = `${lines[last]} ${word}`.trim();
    }
    lines.slice(0, 2).forEach((line, index) => context.fillText(line, x, y + 14 * index, 100));
  }

  // ---- the cloud -----------------------------------------------------------------------------------------

  const canvas = document.getElementById("cloud");
  const box = { left: 62, right: 14, top: 12, bottom: 44 };
  let view = null;

  function cloudAxes() {
    return [form.elements.namedItem("x").value, form.elements.namedItem("y").value];
  }

  // Every trial of the job: the rows where all of them have one, else whole columns from the server.
  async function loadCloud() {
    const byNumber = new Map(data.rows.map((row) => [row.number, row]));
    if (data.total <= data.rows.length) {
      cloud.dots = data.rows.map((row) => ({ number: row.number, row, front: row.front, state: row.state }));
      return;
    }
    if (!cloud.dots.length) { // the rows that are here, until all of them are
      cloud.dots = data.rows.map((row) => ({ number: row.number, row, front: row.front, state: row.state }));
      draw();
    }
    const wanted = [...new Set([...cloudAxes(), ...dimensions.filter((one) => one.quantity && filters[one.key]).map((one) => one.key)])];
    await Promise.all(["number", "state", ...wanted].filter((key) => !cloud.columns[key]).map(async (key) => {
      const answer = await fetch(`${data.base}/columns/${key}`);
      if (!answer.ok) throw new Error(`column ${key}`);
      cloud.columns[key] = new Float32Array(await answer.arrayBuffer());
    }));
    const { number, state } = cloud.columns;
    if (cloud.dots.length !== number.length) {
      cloud.dots = Array.from(number, (value, index) => ({ number: value, index, row: byNumber.get(value), front: state[index] === 1, state: "" }));
    }
  }

  function valueOf(dot, key) {
    if (dot.index === undefined) return dot.row.values[place(key)];
    const column = cloud.columns[key];
    if (!column) return dot.row ? dot.row.values[place(key)] : null;
    const value = column[dot.index];
    return Number.isNaN(value) ? null : value * dimensions[place(key)].scale;
  }

  const isAdmitted = (dot) => Object.keys(filters).every((key) => passes(key, dimensions[place(key)].quantity ? valueOf(dot, key) : dot.row ? dot.row.values[place(key)] : null));

  function drawCloud() {
    const [xKey, yKey] = cloudAxes();
    const width = canvas.parentElement.clientWidth - 2 * 20;
    const height = 420;
    const context = prepared(canvas, width, height);
    const dots = cloud.dots.map((dot) => ({ dot, a: valueOf(dot, xKey), b: valueOf(dot, yKey) })).filter((one) => one.a !== null && one.b !== null);
    const xs = scaleOf(dimensions[place(xKey)], dots.map((one) => one.a));
    const ys = scaleOf(dimensions[place(yKey)], dots.map((one) => one.b));
    const px = (value) => box.left + part(xs, value) * (width - box.left - box.right);
    const py = (value) => height - box.bottom - part(ys, value) * (height - box.top - box.bottom);
    view = { xs, ys, px, py, width, height, marks: [] };
    drawFrame(context, xs, ys, dimensions[place(xKey)].title, dimensions[place(yKey)].title);
    const size = dots.length > 20000 ? 1.5 : dots.length > 3000 ? 2 : 3.2;
    const order = (one) => (isAdmitted(one.dot) ? 1 : 0) + (one.dot.number < 0 ? 2 : one.dot.front ? 4 : 0);
    const ranked = dots.map((one) => ({ ...one, rank: order(one) })).sort((a, b) => a.rank - b.rank);
    for (const one of ranked) drawDot(context, one, px(one.a), py(one.b), size);
    context.globalAlpha = 1;
    drawCloudFilter(context, xKey, yKey);
    keep(canvas);
    if (hovered) drawHover(context);
  }

  function drawDot(context, one, x, y, size) {
    const inside = one.rank % 2 === 1;
    const kind = one.rank >> 1;
    context.globalAlpha = inside ? (kind ? 1 : cloud.dots.length > 3000 ? 0.45 : 0.75) : 0.16;
    context.fillStyle = colours[kind === 2 ? "accent" : kind === 1 ? "reference" : "cloud"];
    context.beginPath();
    if (kind === 1) {
      context.moveTo(x, y - 5);
      context.lineTo(x + 4.6, y + 3.6);
      context.lineTo(x - 4.6, y + 3.6);
      context.fill();
    } else if (kind === 2) {
      context.arc(x, y, 5, 0, 7);
      context.fill();
    } else if (size < 3) {
      context.fillRect(x - size / 2, y - size / 2, size, size);
    } else {
      context.arc(x, y, size, 0, 7);
      context.fill();
    }
    view.marks.push({ x, y, dot: one.dot, a: one.a, b: one.b });
  }

  function drawFrame(context, xs, ys, xTitle, yTitle) {
    const { px, py, width, height } = view;
    context.strokeStyle = colour("grid");
    context.fillStyle = colour("muted");
    context.lineWidth = 1;
    context.textAlign = "center";
    for (const value of ticks(xs)) {
      context.beginPath();
      context.moveTo(px(value), box.top);
      context.lineTo(px(value), height - box.bottom);
      context.stroke();
      context.fillText(words(value), px(value), height - box.bottom + 16);
    }
    context.fillText(xTitle + (xs.log ? ", log scale" : ""), (box.left + width - box.right) / 2, height - 8);
    context.textAlign = "right";
    for (const value of ticks(ys)) {
      context.beginPath();
      context.moveTo(box.left, py(value));
      context.lineTo(width - box.right, py(value));
      context.stroke();
      context.fillText(words(value), box.left - 6, py(value) + 4);
    }
    context.save();
    context.translate(13, (box.top + height - box.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(yTitle + (ys.log ? ", log scale" : ""), 0, 0);
    context.restore();
  }

  function drawCloudFilter(context, xKey, yKey) {
    const ranges = [filters[xKey], filters[yKey]];
    if (!ranges.some(Boolean)) return;
    const ends = (range, scale) => [Math.max(scale.low, range ? range.low : -Infinity), Math.min(scale.high, range ? range.high : Infinity)];
    const [x0, x1] = ends(ranges[0], view.xs);
    const [y0, y1] = ends(ranges[1], view.ys);
    context.strokeStyle = colour("highlight");
    context.setLineDash([5, 3]);
    context.strokeRect(view.px(x0), view.py(y1), view.px(x1) - view.px(x0), view.py(y0) - view.py(y1));
    context.setLineDash([]);
  }

  function drawHover(context) {
    const mark = view.marks.find((one) => one.dot.number === hovered.number);
    if (!mark) return;
    context.globalAlpha = 1;
    context.strokeStyle = colour("highlight");
    context.lineWidth = 2;
    context.beginPath();
    context.arc(mark.x, mark.y, 9, 0, 7);
    context.stroke();
    const name = mark.dot.number < 0 ? `reference R${-mark.dot.number}` : `trial ${mark.dot.number}`;
    const text = [name + (mark.dot.row ? `: ${mark.dot.row.what}` : ""), `${words(mark.a)}, ${words(mark.b)}`];
    context.font = "12px system-ui, sans-serif";
    const wide = Math.min(view.width - 20, Math.max(...text.map((line) => context.measureText(line).width)) + 16);
    const left = Math.max(4, Math.min(view.width - wide - 4, mark.x + 12));
    const top = mark.y > 70 ? mark.y - 56 : mark.y + 14;
    context.fillStyle = colour("surface");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.fillRect(left, top, wide, 42);
    context.strokeRect(left, top, wide, 42);
    context.fillStyle = colour("ink");
    context.textAlign = "left";
    text.forEach((line, index) => context.fillText(line, left + 8, top + 17 + 16 * index, wide - 16));
  }

  // ---- what follows a change -------------------------------------------------------------------------------

  let colours = {};

  function draw() {
    colours = Object.fromEntries(["accent", "reference", "cloud"].map((name) => [name, colour(name)]));
    drawParallel();
    drawCloud();
  }

  function fillTable() {
    const rows = data.rows.filter(admitted);
    const yPlace = place(cloudAxes()[1]);
    const known = (row) => row.values[yPlace] === null ? Infinity : row.values[yPlace];
    rows.sort((a, b) => known(a) - known(b) || a.number - b.number);
    document.getElementById("matches").textContent = `${rows.length.toLocaleString()} of ${data.rows.length.toLocaleString()} match`;
    const kept = [...document.querySelectorAll("input[form=compare]:checked")].map((one) => one.value);
    const body = document.querySelector("#matching tbody");
    body.replaceChildren(...rows.slice(0, TABLE_ROWS).map((row) => tableRow(row, kept)));
    if (!rows.length) {
      const cell = element("td", "No trial matches these filters.", "empty");
      cell.colSpan = 3 + dimensions.filter((one) => one.quantity).length;
      body.append(element("tr"));
      body.lastChild.append(cell);
    }
  }

  function element(tag, text, css) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (css) made.className = css;
    return made;
  }

  function tableRow(row, kept) {
    const line = element("tr");
    const choose = element("td", undefined, "choose");
    const tick = element("input");
    Object.assign(tick, { type: "checkbox", name: "trials", value: row.label, checked: kept.includes(row.label) });
    tick.setAttribute("form", "compare");
    tick.setAttribute("aria-label", `compare trial ${row.label}`);
    choose.append(tick);
    const name = element("td");
    const link = element("a", row.label);
    link.href = `${data.base}/trials/${row.number}`;
    name.append(link);
    const what = element("td", `${row.what} `, "what");
    if (row.front) what.append(element("span", "front", "badge front"));
    line.append(choose, name, what);
    dimensions.forEach((dimension, index) => { if (dimension.quantity) line.append(element("td", words(row.values[index]), "number")); });
    line.addEventListener("pointerenter", () => { hovered = row; drawPointer(); });
    line.addEventListener("pointerleave", () => { hovered = null; drawPointer(); });
    return line;
  }

  async function change() {
    readForm();
    const query = address();
    window.history.replaceState(null, "", `${data.base}/explore${query ? `?${query}` : ""}`);
    for (const link of document.querySelectorAll("a[href*='/explore.csv']")) link.href = `${data.base}/explore.csv${query ? `?${query}` : ""}`;
    fillTable();
    drawParallel();
    try {
      await loadCloud();
    } catch {
      document.getElementById("cloud-note").textContent = "The cloud cannot be loaded now; change an axis to try again.";
    }
    draw();
  }

  // ---- pointer -----------------------------------------------------------------------------------------------

  function at(event, target) {
    const rectangle = target.getBoundingClientRect();
    return [event.clientX - rectangle.left, event.clientY - rectangle.top];
  }

  function brushAxes() {
    let held = null;
    const width = () => parallel.clientWidth;
    parallel.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event, parallel);
      const distances = dimensions.map((_, index) => Math.abs(axisX(index, width()) - x));
      const index = distances.indexOf(Math.min(...distances));
      if (distances[index] > 34) return;
      if (y < TOP - 8) { setRange(dimensions[index].key, null, null); change(); return; }
      held = { index, y };
      parallel.setPointerCapture(event.pointerId);
    });
    parallel.addEventListener("pointermove", (event) => {
      if (!held) return;
      const [, y] = at(event, parallel);
      if (Math.abs(y - held.y) < 4) return;
      const share = (value) => Math.max(0, Math.min(1, (HEIGHT - BOTTOM - value) / (HEIGHT - TOP - BOTTOM)));
      const ends = [share(held.y), share(y)].sort((a, b) => a - b).map((one) => unpart(scales[held.index], one));
      setRange(dimensions[held.index].key, ends[0], ends[1]);
      readForm();
      drawParallel();
      if (cloud.dots.length <= 5000) drawCloud();
    });
    parallel.addEventListener("pointerup", () => { if (held) { held = null; change(); } });
  }

  function brushCloud() {
    let held = null;
    const inPlane = ([x, y]) => [
      Math.max(0, Math.min(1, (x - box.left) / (view.width - box.left - box.right))),
      Math.max(0, Math.min(1, (view.height - box.bottom - y) / (view.height - box.top - box.bottom))),
    ];
    const nearest = ([x, y]) => {
      let best = null;
      for (const mark of view.marks) {
        const distance = Math.hypot(mark.x - x, mark.y - y);
        if (distance < 14 && (!best || distance < best.distance)) best = { distance, dot: mark.dot };
      }
      return best && best.dot;
    };
    canvas.addEventListener("pointerdown", (event) => { held = at(event, canvas); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      const here = at(event, canvas);
      if (held) {
        const context = again(canvas);
        context.strokeStyle = colour("highlight");
        context.strokeRect(held[0], held[1], here[0] - held[0], here[1] - held[1]);
        return;
      }
      const dot = nearest(here);
      canvas.style.cursor = dot ? "pointer" : "crosshair";
      const found = dot ? dot.row || { number: dot.number } : null;
      if ((found && found.number) !== (hovered && hovered.number)) { hovered = found; drawPointer(); }
    });
    canvas.addEventListener("pointerleave", () => { if (hovered) { hovered = null; drawPointer(); } });
    canvas.addEventListener("pointerup", (event) => {
      if (!held) return;
      const from = held;
      const to = at(event, canvas);
      held = null;
      if (Math.hypot(to[0] - from[0], to[1] - from[1]) < 6) {
        const dot = nearest(to);
        if (dot) window.location.assign(`${data.base}/trials/${dot.number}`);
        return;
      }
      const [a, b] = [inPlane(from), inPlane(to)];
      const keys = cloudAxes();
      [view.xs, view.ys].forEach((scale, index) => {
        const ends = [a[index], b[index]].sort((one, other) => one - other).map((share) => unpart(scale, share));
        setRange(keys[index], ends[0], ends[1]);
      });
      change();
    });
  }

  function start() {
    for (const id of ["parallel-card", "cloud-card"]) document.getElementById(id).hidden = false;
    document.getElementById("apply").hidden = true;
    data.x0 = data.ordinary.x;
    data.y0 = data.ordinary.y;
    form.addEventListener("change", change);
    form.addEventListener("submit", (event) => { event.preventDefault(); change(); });
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    window.addEventListener("resize", draw);
    for (const button of document.querySelectorAll("[data-canvas]")) {
      button.addEventListener("click", () => {
        const target = document.getElementById(button.dataset.canvas);
        target.toBlob((blob) => window.saveBlob(blob, `paretoformer-${button.dataset.canvas}.png`), "image/png");
      });
    }
    brushAxes();
    brushCloud();
    change();
  }

  start();
})();
