"use strict";
// The site's own script: choices, kept in the address after #, redraw what the server drew.
// Everything is text or attributes made here; no HTML is parsed and nothing is evaluated.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const D = window.SF_RUNS, B = window.SF_BOARDS;
  const page = document.body.dataset.page;
  const view = document.getElementById("view");
  const form = document.querySelector("form.controls");
  let shown = null;  // what an export holds: {name, head, rows}

  // Elements -------------------------------------------------------------------------------------

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === true) node.setAttribute(name, "");
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined) node.append(child);
    }
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const sv = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const words = (x, y, text, css, more) => sv("text", { class: css, x: r2(x), y: r2(y), ...more }, text);
  const r2 = (value) => Math.round(value * 100) / 100;

  // Numbers, as the server writes them -----------------------------------------------------------

  const minus = (text) => text.replace("-", "−");
  const isShare = (unit) => unit.replace(/,/g, " ").split(/\s+/)
    .some((word) => ["share", "rate", "rates", "proportion", "similarity"].includes(word));
  function digits(value) {
    if (value === 0) return "0";
    const power = Math.floor(Math.log10(Math.abs(value)));
    const rounded = Number(value.toPrecision(3));
    const text = rounded.toLocaleString("en", {
      minimumFractionDigits: 0, maximumFractionDigits: Math.min(Math.max(0, 2 - power), 6),
    });
    return minus(text);
  }
  function tickText(value, unit) {
    if (value === null || value === undefined) return "–";
    return isShare(unit || "") ? `${digits(100 * value)}\u00a0%` : digits(value);
  }
  function fixed(value, places) {
    if (Math.abs(value) >= 1000) return digits(value);
    const text = value.toFixed(places);
    return minus(/[1-9]/.test(text) ? text : text.replace("-", ""));
  }
  function measured(value, unit) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    if (!isShare(unit || "")) return fixed(value, 3);
    return `${fixed(100 * value, Math.abs(value) >= 0.00995 || value === 0 ? 1 : 2)}\u00a0%`;
  }
  function duration(seconds) {
    if (seconds < 60) return `${digits(seconds)} s`;
    const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
    return minutes < 60 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }
  const span = (low, high, unit) => `${measured(low, unit)} to ${measured(high, unit)}`;

  // As the server shows names: no control character and none that changes the direction of text.
  const plain = (text) => text.replace(/(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}]/gu, "�");

  // State in the address -------------------------------------------------------------------------

  const state = () => new URLSearchParams(location.hash.slice(1));
  function change(values) {
    const next = state();
    for (const [name, value] of Object.entries(values)) {
      if (value === "" || value === null) next.delete(name);
      else next.set(name, value);
    }
    const text = next.toString();
    if (text === state().toString()) return;
    location.hash = text;
  }
  // Unknown words in an address fall back to the first choice.
  const chosen = (name, known, fallback) => {
    const value = state().get(name);
    return known.includes(value) ? value : fallback;
  };
  function offer(name, options, value) {
    const select = form.elements[name];
    select.replaceChildren(...options.map(([key, text]) => el("option", { value: key }, text)));
    select.value = value;
    if (!select.dataset.ready) {
      select.dataset.ready = "1";
      select.addEventListener("change", () => change({ [name]: select.value }));
    }
  }
  const same = (list) => list.map((item) => [item, item]);

  // Parts of pages -------------------------------------------------------------------------------

  const runLink = (name) => el("a", { href: `runs/${encodeURIComponent(name)}/index.html` }, name);
  const markOf = (at) => D.markers[D.generators[at].marker];
  const generator = (at) => el("span", { class: "gen" },
    sv("svg", { class: "mark-icon", viewBox: "-8 -8 16 16", "aria-hidden": "true" },
      sv("path", { class: `mk g${D.generators[at].colour}`, d: markOf(at) })), D.generators[at].label);
  const legend = (found) => el("ul", { class: "legend", "aria-label": "Generators" },
    [...new Set(found)].sort((a, b) => a - b).map((at) => el("li", {}, generator(at))));
  function table(label, head, rows, caption) {
    return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      el("table", {}, caption ? el("caption", {}, caption) : null,
        el("thead", {}, el("tr", {}, head.map((text) => el("th", {}, text)))),
        el("tbody", {}, rows.map((row) => el("tr", { class: row.css },
          row.cells.map((cell, at) => at === (row.header || 0)
            ? el("th", { scope: "row" }, cell) : el("td", {}, cell)))))));
  }
  const panel = (title, ...children) =>
    el("section", { class: "panel", "aria-label": title }, el("h2", {}, title), children);
  const scrolled = (label, ...children) =>
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, children);

  // Charts ---------------------------------------------------------------------------------------

  const BOX = { width: 640, height: 400, left: 62, top: 14, right: 626, bottom: 346 };
  function domain(values) {
    if (!values.length) return [0, 1];
    const low = Math.min(...values), high = Math.max(...values);
    const widest = Math.max(...values.map(Math.abs));
    const room = Math.max((high - low) * 0.08, (widest || 1) * 0.02, 1e-9);
    return [low - room, high + room];
  }
  const scale = ([low, high], [a, b]) => (value) => a + (b - a) * (value - low) / (high - low);
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => rough <= size * 1.0001);
    const found = [];
    for (let at = Math.ceil(low / step - 1e-9); at <= Math.floor(high / step + 1e-9); at++) {
      found.push(Number((at * step).toPrecision(12)));
    }
    return found;
  }
  function frame(x, y, xTitle, yTitle, xUnit, yUnit, categories) {
    const body = [];
    for (const tick of ticks(...y.domain, 5)) {
      body.push(sv("path", { class: "gridline", d: `M${BOX.left} ${r2(y(tick))}H${BOX.right}` }),
        words(BOX.left - 8, y(tick) + 4, tickText(tick, yUnit), "tick", { "text-anchor": "end" }));
    }
    if (categories) {
      categories.forEach((name, at) => body.push(
        words(x(at), BOX.bottom + 18, name, "tick", { "text-anchor": "middle" })));
    } else {
      for (const tick of ticks(...x.domain, 6)) {
        body.push(sv("path", { class: "gridline", d: `M${r2(x(tick))} ${BOX.top}V${BOX.bottom}` }),
          words(x(tick), BOX.bottom + 18, tickText(tick, xUnit), "tick", { "text-anchor": "middle" }));
      }
    }
    body.push(sv("path", { class: "axis", d: `M${BOX.left} ${BOX.bottom}H${BOX.right}` }),
      words((BOX.left + BOX.right) / 2, BOX.bottom + 42, xTitle, "label", { "text-anchor": "middle" }),
      sv("text", { class: "label", "text-anchor": "middle", transform: "translate(14 180) rotate(-90)" }, yTitle));
    return body;
  }
  function axisScale(values, range) {
    const found = domain(values), made = scale(found, range);
    made.domain = found;
    return made;
  }
  const chart = (title, css, body, width, height) => sv("svg", {
    class: `chart ${css}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title,
  }, body);
  const point = (at, x, y, big, text) => sv("path", {
    class: `mk g${D.generators[at].colour}${big ? " on-front" : ""}`,
    transform: `translate(${r2(x)} ${r2(y)})`, d: markOf(at),
  }, sv("title", {}, text));

  // Pages ----------------------------------------------------------------------------------------

  const axisOf = (key) => D.axes.find((axis) => axis.key === key);
  // The worse end of a run's interval; a cost is its own bound.
  function bound(axis, run) {
    const column = D[axis.key];
    return column[axis.bounded ? (axis.better === "higher" ? 1 : 2) : 0][run];
  }
  const boundTitle = (axis) => !axis.bounded ? `${axis.title}, ${axis.unit} (less is better)`
    : axis.better === "higher" ? `${axis.title}, lower bound (more is better)`
      : `${axis.title}, upper bound (less is better)`;

  function front(points) {
    const order = points.map((_, at) => at)
      .sort((a, b) => points[a][0] - points[b][0] || points[a][1] - points[b][1]);
    const found = new Set();
    let lowest = Infinity, lowestAt = -Infinity;
    for (const at of order) {
      const [x, y] = points[at];
      if (y < lowest || (y === lowest && x === lowestAt)) {
        found.add(at);
        lowest = y;
        lowestAt = x;
      }
    }
    return found;
  }

  function pareto() {
    // Each table has a page that reads without scripts; here they are choices.
    for (const nav of document.querySelectorAll("nav.parts")) nav.remove();
    const dataset = chosen("dataset", D.datasets, D.datasets[view.dataset.table]);
    const keys = D.axes.map((axis) => axis.key);
    const x = axisOf(chosen("x", keys, "leakage")), y = axisOf(chosen("y", keys, "fidelity"));
    offer("dataset", same(D.datasets), dataset);
    offer("x", D.axes.map((axis) => [axis.key, axis.title]), x.key);
    offer("y", D.axes.map((axis) => [axis.key, axis.title]), y.key);
    const runs = D.run.map((_, at) => at).filter((at) => D.datasets[D.d[at]] === dataset);
    const placed = runs.filter((at) => bound(x, at) !== null && bound(y, at) !== null);
    const sign = (axis) => axis.better === "higher" ? -1 : 1;
    const onFront = front(placed.map((at) => [sign(x) * bound(x, at), sign(y) * bound(y, at)]));
    const best = placed.filter((_, at) => onFront.has(at)).sort((a, b) => bound(x, a) - bound(x, b));
    const xs = axisScale(placed.map((at) => bound(x, at)), [BOX.left, BOX.right]);
    const ys = axisScale(placed.map((at) => bound(y, at)), [BOX.bottom, BOX.top]);
    const title = `${y.title} against ${x.title}`;
    const body = frame(xs, ys, boundTitle(x), boundTitle(y), x.unit, y.unit);
    if (best.length > 1) {
      body.push(sv("path", { class: "front", d: "M" + best.map((at) => `${r2(xs(bound(x, at)))} ${r2(ys(bound(y, at)))}`).join("L") }));
    }
    placed.filter((at) => !best.includes(at)).concat(best).forEach((at) => body.push(point(
      D.g[at], xs(bound(x, at)), ys(bound(y, at)), best.includes(at),
      `${D.generators[D.g[at]].label} · ${D.run[at]}: ${measured(bound(x, at), x.unit)}, ${measured(bound(y, at), y.unit)}`)));
    const missing = runs.length - placed.length;
    view.replaceChildren(panel(dataset,
      placed.length ? [
        scrolled(title, el("figure", {}, chart(title, "scatter", body, BOX.width, BOX.height))),
        legend(placed.map((at) => D.g[at])),
        table("The front", ["Run", "Generator", boundTitle(x), boundTitle(y)], best.map((at) => ({
          cells: [runLink(D.run[at]), generator(D.g[at]), measured(bound(x, at), x.unit), measured(bound(y, at), y.unit)],
        })), "The front"),
      ] : null,
      missing ? el("p", { class: "empty" }, `${missing} of ${runs.length} runs have no value on one of the axes and are not drawn.`) : null));
    shown = {
      name: `pareto-${dataset}`, head: ["run", "dataset", "generator", `${x.key}_bound`, `${y.key}_bound`, "on_front"],
      rows: placed.map((at) => [D.run[at], dataset, D.generators[D.g[at]].label, bound(x, at), bound(y, at), best.includes(at)]),
    };
  }

  function trend() {
    const dataset = chosen("dataset", D.datasets, D.datasets[0]);
    const y = axisOf(chosen("y", D.axes.map((axis) => axis.key), "fidelity"));
    const by = chosen("by", ["version", "day"], "version");
    offer("dataset", same(D.datasets), dataset);
    offer("y", D.axes.map((axis) => [axis.key, axis.title]), y.key);
    offer("by", [["version", "Version"], ["day", "Day"]], by);
    const category = (at) => by === "version" ? D.versions[D.v[at]]
      : D.at[at] === null ? null : new Date(1000 * D.at[at]).toISOString().slice(0, 10);
    const runs = D.run.map((_, at) => at).filter((at) => D.datasets[D.d[at]] === dataset
      && D[y.key][0][at] !== null && category(at) !== null);
    const all = by === "version" ? D.versions : [...new Set(runs.map(category))].sort();
    const ends = (at) => y.bounded ? [D[y.key][1][at], D[y.key][2][at]] : [D[y.key][0][at], D[y.key][0][at]];
    const ys = axisScale(runs.flatMap(ends), [BOX.bottom, BOX.top]);
    const step = (BOX.right - BOX.left) / Math.max(all.length, 1);
    const xs = (at) => BOX.left + step * (at + 0.5);
    const generators = [...new Set(runs.map((at) => D.g[at]))].sort((a, b) => a - b);
    const body = frame(xs, ys, by, y.title, "", y.unit, all);
    const rows = [], marks = [];
    generators.forEach((g, place) => {
      const shift = (place - (generators.length - 1) / 2) * Math.min(14, step * 0.8 / generators.length);
      const means = [];
      all.forEach((name, at) => {
        const own = runs.filter((run) => D.g[run] === g && category(run) === name);
        if (!own.length) return;
        means.push([xs(at) + shift, own.reduce((sum, run) => sum + D[y.key][0][run], 0) / own.length]);
        for (const run of own) {
          const [low, high] = ends(run);
          body.push(sv("path", { class: `curve s${D.generators[g].colour}`, d: `M${r2(xs(at) + shift)} ${r2(ys(low))}V${r2(ys(high))}` }));
          marks.push(point(g, xs(at) + shift, ys(D[y.key][0][run]), false, `${D.generators[g].label} · ${D.run[run]}: ${measured(D[y.key][0][run], y.unit)}`));
          rows.push([D.run[run], dataset, D.generators[g].label, name, D[y.key][0][run], low, high]);
        }
      });
      if (means.length > 1) body.push(sv("path", { class: `curve s${D.generators[g].colour}`, d: "M" + means.map(([x, v]) => `${r2(x)} ${r2(ys(v))}`).join("L") }));
    });
    const title = `${y.title} on ${dataset}`;
    view.replaceChildren(panel(title, runs.length ? [
      el("p", { class: "lead" }, "Every run with its own interval; lines join the means."),
      scrolled(title, el("figure", {}, chart(title, "scatter", [...body, ...marks], BOX.width, BOX.height))), legend(generators),
      el("details", {}, el("summary", {}, "As a table"), table(title, ["Run", "Generator", by, "Value", "Interval"],
        rows.map((row) => ({ cells: [runLink(row[0]), row[2], row[3], measured(row[4], y.unit), span(row[5], row[6], y.unit)] })))),
    ] : el("p", { class: "empty" }, "No run has a value here.")));
    shown = { name: `trend-${dataset}`, head: ["run", "dataset", "generator", by, "value", "lcb", "ucb"], rows };
  }

  const metricChoices = () => Object.entries(B.metrics).map(([id, metric]) => [id, `${metric.title} (${id})`]);
  const rankText = (cell) => cell[6] === cell[7] ? `${cell[6]}` : `${cell[6]}–${cell[7]}`;
  function boardRows(id, datasets) {
    const metric = B.metrics[id];
    return metric.cells.filter((cell) => datasets.includes(D.datasets[cell[0]])).map((cell) => [
      D.datasets[cell[0]], D.generators[cell[1]].label, id, cell[2], cell[3], cell[4], cell[5], cell[6], cell[7]]);
  }
  const BOARD_HEAD = ["dataset", "generator", "metric", "mean", "lcb", "ucb", "runs", "rank_best", "rank_worst"];

  function leaderboard() {
    const ids = Object.keys(B.metrics);
    if (!ids.length) return;
    const picked = state().has("metric") || state().has("dataset");
    const id = chosen("metric", ids, ids[0]), dataset = chosen("dataset", D.datasets, "");
    offer("metric", metricChoices(), id);
    offer("dataset", [["", "All"], ...same(D.datasets)], dataset);
    const datasets = dataset ? [dataset] : D.datasets;
    shown = { name: `leaderboard-${id}`, head: BOARD_HEAD, rows: boardRows(id, datasets) };
    if (!picked && !leaderboard.redrawn) return;  // the server's own page
    leaderboard.redrawn = true;
    const metric = B.metrics[id], parts = [];
    const measuredOn = new Set(metric.cells.map((cell) => cell[0])).size;
    if (!dataset && measuredOn > 1) {
      parts.push(table("Over all tables", ["Rank", "Generator", "Mean rank, from", "to", "Coverage"], metric.overall.map((row) => ({
        header: 1, cells: [row[1] === null ? "–" : `${row[1]}`, generator(row[0]), digits(row[2]), digits(row[3]),
          `${row[4]} of ${measuredOn}${row[1] === null ? ": not ranked" : ""}`],
      })), "Over all tables"));
    }
    for (const name of datasets) {
      const at = D.datasets.indexOf(name);
      const cells = metric.cells.filter((cell) => cell[0] === at).sort((a, b) => a[6] - b[6] || a[7] - b[7] || a[1] - b[1]);
      const seen = cells.map((cell) => cell[1]);
      const absent = B.groups.filter((group) => group[0] === at && !seen.includes(group[1]));
      parts.push(table(`${metric.title} on ${name}`, ["Rank", "Generator", "Mean", "Interval", "Runs"], [
        ...cells.map((cell) => ({ header: 1, cells: [rankText(cell), generator(cell[1]), measured(cell[2], metric.unit), span(cell[3], cell[4], metric.unit), `${cell[5]}`] })),
        ...absent.map((group) => ({ css: "absent", header: 1, cells: ["–", generator(group[1]), group[3] ? "failed" : "not measured", "", `${group[2]}`] })),
      ], name));
    }
    view.replaceChildren(panel(metric.title, el("p", { class: "lead" }, `${id}, ${metric.better} is better. `,
      el("a", { href: `metrics.html#${id}` }, "How it is measured")), parts));
  }

  function heatmap() {
    const ids = Object.keys(B.metrics);
    if (!ids.length) return;
    const id = chosen("metric", ids, ids[0]);
    offer("metric", metricChoices(), id);
    shown = { name: `heatmap-${id}`, head: BOARD_HEAD, rows: boardRows(id, D.datasets) };
    if (!state().has("metric") && !heatmap.redrawn) return;
    heatmap.redrawn = true;
    const metric = B.metrics[id], width = 104, height = 38, top = 64;
    const left = 16 + 7 * Math.max(0, ...D.datasets.map((name) => Math.min(name.length, 22)));
    const end = (cell) => cell[metric.better === "higher" ? 3 : 4];
    const values = metric.cells.map(end), low = Math.min(...values), high = Math.max(...values);
    const short = (text, length) => text.length > length ? text.slice(0, length - 1) + "…" : text;
    const body = [document.querySelector("svg.heat-grid defs").cloneNode(true)];
    D.generators.forEach((item, column) => {
      const x = left + width * (column + 0.5), [name, variant] = item.label.split(" (", 2);
      body.push(sv("path", { class: `mk g${item.colour}`, transform: `translate(${x} 18)`, d: markOf(column) }),
        words(x, 42, short(name, 15), "label", { "text-anchor": "middle" }));
      if (variant) body.push(words(x, 56, short(variant.replace(/\)$/, ""), 17), "tick", { "text-anchor": "middle" }));
    });
    D.datasets.forEach((name, row) => {
      const y = top + height * row;
      body.push(words(left - 10, y + height / 2 + 4, short(name, 22), "label", { "text-anchor": "end" }));
      D.generators.forEach((item, column) => {
        const cell = metric.cells.find((found) => found[0] === row && found[1] === column);
        const group = B.groups.find((found) => found[0] === row && found[1] === column);
        let css = "gap", text = "–";
        if (cell) {
          const share = high > low ? (end(cell) - low) / (high - low) : 1;
          css = `h${Math.round(1 + 5 * (metric.better === "higher" || high === low ? share : 1 - share))}`;
          text = (metric.better === "higher" ? "≥ " : "≤ ") + measured(end(cell), metric.unit);
        } else if (group && group[3]) [css, text] = ["failed", `✕ ${group[3]} failed`];
        body.push(sv("rect", { class: `cell ${css}`, x: left + width * column + 1, y: y + 1, width: width - 2, height: height - 2 },
          sv("title", {}, `${item.label} on ${name}: ${text}`)),
          words(left + width * (column + 0.5), y + height / 2 + 4, text, "label", { "text-anchor": "middle" }));
      });
    });
    const title = `${metric.title} by table and generator`;
    view.replaceChildren(panel(metric.title, scrolled(title, el("figure", {}, chart(title, `heat-grid${D.generators.length <= 5 ? "" : D.generators.length <= 10 ? " wide" : " widest"}`, body,
      left + width * D.generators.length + 4, top + height * D.datasets.length + 4))),
      el("details", {}, el("summary", {}, "As a table"), table(title, ["Table", "Generator", "Mean", "Interval"],
        metric.cells.map((cell) => ({ cells: [D.datasets[cell[0]], generator(cell[1]), measured(cell[2], metric.unit), span(cell[3], cell[4], metric.unit)] }))))));
  }

  // Runs: filter, sort, choose -------------------------------------------------------------------

  const RUN_COLUMNS = {
    run: (at) => D.run[at], state: (at) => D.states[D.s[at]], dataset: (at) => D.datasets[D.d[at]],
    generator: (at) => D.generators[D.g[at]].label, seed: (at) => D.seed[at], at: (at) => D.at[at],
    fidelity: (at) => bound(axisOf("fidelity"), at), leakage: (at) => bound(axisOf("leakage"), at),
    utility: (at) => bound(axisOf("utility"), at), wall_s: (at) => D.wall_s[0][at],
  };
  function runs() {
    const body = document.querySelector("#runs tbody");
    if (!runs.rows) {
      // The server wrote some of the runs; here all are one list.
      for (const nav of document.querySelectorAll("nav.parts")) nav.remove();
      runs.rows = D.run.map((_, at) => runRow(at));
      runs.text = runs.rows.map((row) => row.textContent.toLowerCase());
      runs.picked = new Set();
      prepareRuns();
    }
    const values = state();
    const state_ = chosen("state", D.states, ""), dataset = chosen("dataset", D.datasets, "");
    const generator_ = chosen("generator", D.generators.map((item) => item.label), "");
    offer("state", [["", "All"], ...same(D.states)], state_);
    offer("dataset", [["", "All"], ...same(D.datasets)], dataset);
    offer("generator", [["", "All"], ...D.generators.map((item) => [item.label, item.label])], generator_);
    const q = (values.get("q") || "").toLowerCase();
    if (form.elements.q !== document.activeElement) form.elements.q.value = values.get("q") || "";
    const [key, down] = [(values.get("sort") || "").replace(/^-/, ""), (values.get("sort") || "").startsWith("-")];
    const kept = D.run.map((_, at) => at).filter((at) => (!state_ || D.states[D.s[at]] === state_)
      && (!dataset || D.datasets[D.d[at]] === dataset)
      && (!generator_ || D.generators[D.g[at]].label === generator_) && (!q || runs.text[at].includes(q)));
    const column = RUN_COLUMNS[key];
    if (column) {
      // What has no value stands last, whichever way is sorted.
      kept.sort((a, b) => {
        const [x, y] = [column(a), column(b)];
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === "string" ? x.localeCompare(y, "en") : x - y;
        return (down ? -order : order) || a - b;
      });
    }
    for (const th of document.querySelectorAll("#runs th[data-sort]")) {
      th.setAttribute("aria-sort", th.dataset.sort !== key ? "none" : down ? "descending" : "ascending");
    }
    body.replaceChildren(...kept.map((at) => runs.rows[at]));
    document.getElementById("count").textContent = `${kept.length} of ${D.run.length} runs.`;
    const names = ["run", "state", "dataset", "generator", "seed", "version", "ended_at"];
    const costs = D.axes.filter((axis) => !axis.bounded), metrics = D.axes.filter((axis) => axis.bounded);
    shown = {
      name: "runs",
      head: [...names, ...metrics.flatMap((axis) => [axis.key, `${axis.key}_lcb`, `${axis.key}_ucb`]), ...costs.map((axis) => axis.key)],
      rows: kept.map((at) => [D.run[at], D.states[D.s[at]], D.datasets[D.d[at]], D.generators[D.g[at]].label, D.seed[at],
        D.versions[D.v[at]], D.at[at], ...metrics.flatMap((axis) => [0, 1, 2].map((end) => D[axis.key][end][at])),
        ...costs.map((axis) => D[axis.key][0][at])]),
    };
  }
  function runRow(at) {
    const numbers = ["fidelity", "leakage", "utility"].map(axisOf).map((axis) => measured(bound(axis, at), axis.unit));
    const took = D.wall_s[0][at], ended = D.at[at];
    return el("tr", {}, el("th", { scope: "row" }, runLink(D.run[at])),
      el("td", {}, el("span", { class: `st-${D.looks[D.s[at]]}` }, D.states[D.s[at]])),
      el("td", {}, plain(D.datasets[D.d[at]])), el("td", {}, plain(D.generators[D.g[at]].label)),
      [`${D.seed[at]}`, ...numbers, took ? duration(took) : "–"].map((text) => el("td", { class: "num" }, text)),
      el("td", {}, ended === null ? "–" : new Date(1000 * ended).toISOString().slice(0, 16).replace("T", " ")));
  }
  function prepareRuns() {
    for (const th of document.querySelectorAll("#runs th[data-sort]")) {
      const button = el("button", { type: "button" }, th.textContent);
      button.addEventListener("click", () => {
        const now = state().get("sort");
        change({ sort: now === th.dataset.sort ? `-${th.dataset.sort}` : th.dataset.sort });
      });
      th.replaceChildren(button);
    }
    let waiting = 0;
    form.elements.q.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change({ q: form.elements.q.value }), 120);
    });
    const link = document.getElementById("compare-link");
    runs.rows.forEach((row, at) => {
      const box = el("input", { type: "checkbox", "aria-label": `Compare ${D.run[at]}` });
      box.addEventListener("change", () => {
        if (box.checked) runs.picked.add(D.run[at]);
        else runs.picked.delete(D.run[at]);
        const n = runs.picked.size;
        link.hidden = n < 2 || n > 6;
        link.textContent = `Compare ${n} runs`;
        link.href = "compare.html#" + new URLSearchParams({ runs: [...runs.picked].join(",") });
      });
      row.cells[0].prepend(box);
    });
  }

  // Comparison: the chosen runs' own files are loaded as classic scripts ---------------------------

  const loaded = new Map();
  window.sfRun = (document_) => loaded.set(document_.run, document_);
  function load(name) {
    if (loaded.has(name)) return Promise.resolve();
    return new Promise((resolve) => {
      const script = el("script", { src: `runs/${encodeURIComponent(name)}/run.js` });
      script.onload = script.onerror = resolve;
      document.head.append(script);
    });
  }
  async function compare() {
    const wanted = (state().get("runs") || "").split(",").filter(Boolean);
    const known = wanted.filter((name) => D.run.includes(name)), names = [...new Set(known)].slice(0, 6);
    const note = document.getElementById("note");
    const unknown = wanted.filter((name) => !D.run.includes(name));
    const said = [];
    if (unknown.length) said.push(`Not on this site: ${unknown.join(", ")}.`);
    if (new Set(known).size > 6) said.push("Only the first six are shown.");
    if (names.length === 1) said.push("Add one more run.");
    note.hidden = !said.length;
    note.textContent = said.join(" ");
    if (!compare.ready) {
      compare.ready = true;
      document.getElementById("known").replaceChildren(...D.run.map((name) => el("option", { value: name })));
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const added = form.elements.add.value.trim(), now = (state().get("runs") || "").split(",").filter(Boolean);
        if (added) change({ runs: [...now, added].join(",") });
        form.elements.add.value = "";
      });
    }
    document.getElementById("chosen").replaceChildren(...names.map((name) => {
      const button = el("button", { type: "button", "aria-label": `Remove ${name}` }, `${name} ✕`);
      button.addEventListener("click", () => change({ runs: names.filter((other) => other !== name).join(",") }));
      return button;
    }));
    const turn = compare.turn = (compare.turn || 0) + 1;
    if (names.length < 2) return;
    await Promise.all(names.map(load));
    if (turn !== compare.turn) return; // other runs were chosen meanwhile
    const found = names.map((name) => loaded.get(name)).filter(Boolean);
    if (found.length < 2) return;
    const rows = [], head = found.map((item) => item.run);
    const ids = [...new Set(found.flatMap((item) => Object.keys(item.metrics)))].sort();
    const results = ids.map((id) => {
      const cells = found.map((item) => item.metrics[id]);
      const there = cells.filter(Boolean);
      const apart = there.length > 1 && Math.max(...there.map((c) => c[1])) > Math.min(...there.map((c) => c[2]));
      cells.forEach((cell, at) => rows.push(["metric", id, head[at], cell ? cell[0] : null, cell ? cell[1] : null, cell ? cell[2] : null]));
      return { cells: [there[0][4], ...cells.map((c) => c ? `${measured(c[0], c[3])} (${span(c[1], c[2], c[3])})` : "–"), apart ? "apart" : "overlap"] };
    });
    const differ = (part) => [...new Set(found.flatMap((item) => Object.keys(item[part])))].sort()
      .map((name) => [name, found.map((item) => name in item[part] ? item[part][name] : "–")])
      .filter(([, values]) => new Set(values).size > 1);
    const diff = (part, title, none) => {
      const lines = differ(part);
      lines.forEach(([name, values]) => values.forEach((value, at) => rows.push([part, name, head[at], value, null, null])));
      return panel(title, lines.length ? table(title, ["Setting", ...head],
        lines.map(([name, values]) => ({ cells: [el("code", {}, name), ...values.map((value) => el("code", {}, value))] })))
        : el("p", { class: "empty" }, none));
    };
    view.replaceChildren(
      panel("Results", table("Results", ["Metric", ...found.map((item) => [runLink(item.run), el("span", { class: "why" }, `${item.state}, ${item.generator}`)]), "Intervals"], results)),
      diff("config", "Configuration: what differs", "The same order."),
      diff("environment", "Environment: what differs", "The same versions, processor and threads."));
    shown = { name: "compare", head: ["part", "name", "run", "value", "lcb", "ucb"], rows };
  }

  // Exports --------------------------------------------------------------------------------------

  function save(name, type, text) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = el("a", { href: address, download: name.replace(/[^\w.-]+/g, "_") });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  function csvCell(value) {
    if (value === null || value === undefined) return "";
    // A spreadsheet must not take a name for a formula.
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  function drawing() {
    const svg = document.querySelector("#view svg.chart").cloneNode(true);
    const [, , width, height] = svg.getAttribute("viewBox").split(" ");
    fill(svg, { xmlns: SVG, width, height }, []);
    const style = document.createElementNS(SVG, "style");
    style.textContent = document.querySelector("style").textContent;
    svg.prepend(style);
    return new XMLSerializer().serializeToString(svg);
  }
  function exportAs(format) {
    if (!shown) return;
    if (format === "csv") save(`${shown.name}.csv`, "text/csv", [shown.head, ...shown.rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n");
    else if (format === "json") save(`${shown.name}.json`, "application/json", JSON.stringify(shown.rows.map((row) => Object.fromEntries(row.map((value, at) => [shown.head[at], value]))), null, 1));
    else save(`${shown.name}.svg`, "image/svg+xml", drawing());
  }

  // Beginning ------------------------------------------------------------------------------------

  const draw = { runs, leaderboard, pareto, heatmap, compare, trend }[page];
  if (draw && D && D.run.length) {
    form.hidden = false;
    if (page !== "compare") form.addEventListener("submit", (event) => event.preventDefault());
    for (const holder of document.querySelectorAll("[data-export]")) {
      holder.hidden = false;
      holder.addEventListener("click", (event) => {
        if (event.target.dataset.format) exportAs(event.target.dataset.format);
      });
    }
    window.addEventListener("hashchange", draw);
    draw();
  }
  const live = document.body.dataset.live;
  if (live && location.protocol === "http:") {
    let before = null;
    setInterval(async () => {
      try {
        const { stamp } = await (await fetch(live, { cache: "no-store" })).json();
        if (before !== null && stamp !== before) location.reload();
        before = stamp;
      } catch {
        document.getElementById("live").textContent = "The server has ended: this is the last state.";
      }
    }, 3000);
  }
})();
