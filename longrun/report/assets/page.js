// The page: which lines, which metric, which protocol; every figure and table follows the same state.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const state = {study: 0, metric: data.studies.length ? data.studies[0].metrics[0] : "", scale: "log", bands: true, controls: true, training: "loss", hidden: new Set()};
  const NAMES = {
    ppl: ["perplexity", "perplexity"],
    bpb: ["bits per byte", "bits/byte"],
    gap: ["NLL − NLL at training length (nats per token)", "gap"],
  };
  const TRAINING = {loss: ["training loss (nats per token)", 1], grad_norm: ["gradient norm", 2]};

  const minus = (text) => (Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−"));
  function perplexity(value, tick) {
    if (value >= 1e6) return value.toExponential(tick ? 0 : 1).replace("e+", "e");
    if (value >= 1000) return Math.round(value).toLocaleString("en-US");
    return tick ? String(Number(value.toPrecision(3))) : value.toFixed(value >= 100 ? 1 : 2);
  }
  const decimals = (value, tick) => minus(tick ? String(Number(value.toPrecision(3))) : value.toFixed(3));
  const signed = (value, tick) => (tick || Math.abs(value) < 0.0005 ? decimals(value, tick) : (value > 0 ? "+" : "") + decimals(value));
  const FORMATS = {ppl: perplexity, bpb: decimals, gap: signed};
  const ratio = (value) => `${{0.5: "½", 0.25: "¼", 0.125: "⅛"}[value] || Number(value.toPrecision(3))}×`;
  const short = (value) => (value >= 1e9 ? `${value / 1e9}B` : value >= 1e6 ? `${value / 1e6}M` : value >= 1e3 ? `${value / 1e3}k` : String(value));
  const look = (number) => ({colour: number % 8, marker: (number + 3 * Math.floor(number / 8)) % 8}); // as report_palette.py
  const trainedRule = (n) => ({at: n, text: `trained at ${n.toLocaleString("en-US")}`});
  const shown = (line) => !state.hidden.has(line.label);

  function lengthSpec(study, detail) {
    const metric = state.metric, triple = (p) => ({x: p.length, y: p[metric][0], lo: p[metric][1], hi: p[metric][2]});
    const trained = study.train_lengths;
    return {
      height: 400, ends: true, early: detail || study.detail[metric] === null, bands: state.bands,
      title: study.detail[metric] === null ? "" : detail ? "Detail of the lower end" : "Whole range",
      describe: `${NAMES[metric][0]} against evaluation length, ${study.lines.length} lines; the numbers are in the table below`,
      x: {
        log: true, label: "evaluation length (tokens, log scale)",
        ticks: study.lengths.map((n) => ({at: n, text: n.toLocaleString("en-US"), sub: trained.length === 1 ? ratio(n / trained[0]) : ""})),
        describe: (n) => `${n.toLocaleString("en-US")} tokens${trained.length === 1 ? `, ${ratio(n / trained[0])}` : ""}`,
      },
      y: {
        log: metric !== "gap" && state.scale === "log" && !detail, max: detail ? study.detail[metric] : undefined,
        label: NAMES[metric][0], short: NAMES[metric][1], format: FORMATS[metric],
      },
      rules: trained.map(trainedRule),
      series: study.lines.filter(shown).map((line) => ({
        label: line.label, ...look(line.colour), points: line.points.map(triple),
        control: state.controls ? line.control.map(triple) : [],
        ending: line.refused.length ? `${line.label}: n/a from ${line.refused[0].length.toLocaleString("en-US")}` : line.label,
      })),
    };
  }

  function drawLengths() {
    if (!data.studies.length) return;
    const study = data.studies[state.study], split = study.detail[state.metric] !== null;
    find("#lengths").classList.toggle("single", !split);
    find("#lengths-detail").classList.toggle("off", !split);
    Chart.draw(find("#lengths-full"), lengthSpec(study, false));
    if (split) Chart.draw(find("#lengths-detail"), lengthSpec(study, true));
    find("#lengths-caption").textContent = study.captions[state.metric];
  }

  function positionSpec(detail, narrow) {
    const ticks = [];
    for (let n = 8; n <= data.positions.length; n *= narrow ? 4 : 2) ticks.push({at: n, text: n.toLocaleString("en-US")});
    return {
      height: 380, ends: true, bands: state.bands, title: data.positions.detail === null ? "" : detail ? "Detail of the lower end" : "Whole range",
      describe: "NLL per token against the position in the window, one line per scheme",
      x: {log: true, label: "position in the window (tokens, log scale)", ticks, describe: (n) => `around position ${Math.round(n).toLocaleString("en-US")}`},
      y: {log: false, max: detail ? data.positions.detail : undefined, label: "NLL (nats per token)", short: "NLL", format: decimals},
      rules: data.positions.train_lengths.map(trainedRule),
      series: data.positions.lines.filter(shown).map((line) => ({
        label: line.label, ...look(line.colour), thin: line.points.length > 24,
        points: line.points.map((p) => ({x: Math.sqrt((p.from + 1) * p.to), y: p.nll[0], lo: p.nll[1], hi: p.nll[2]})),
      })),
    };
  }

  function drawPositions() {
    const host = find("#positions-full");
    if (!host) return;
    const split = data.positions.detail !== null;
    find("#positions").classList.toggle("single", !split);
    find("#positions-detail").classList.toggle("off", !split);
    Chart.draw(host, positionSpec(false, host.clientWidth < 620));
    if (split) Chart.draw(find("#positions-detail"), positionSpec(true, host.clientWidth < 620));
  }

  function drawTraining() {
    if (!find("#training-loss")) return;
    const runs = data.training.filter(shown), [label, column] = TRAINING[state.training];
    const end = Math.max(...data.training.flatMap((run) => [...run.rows, ...run.valid].map((row) => row[0])));
    const step = 10 ** Math.floor(Math.log10(end / 2)) * (end / 10 ** Math.floor(Math.log10(end / 2)) > 8 ? 4 : 1);
    const ticks = [];
    for (let n = 0; n <= end && ticks.length < 12; n += step) ticks.push({at: n, text: short(n)});
    const spec = (name, rows, thin, max) => ({
      height: 330, ends: true, bands: false, describe: `${name} against training tokens, one line per run`,
      x: {log: false, label: "training tokens", ticks: ticks.length > 8 ? ticks.filter((_, i) => i % 2 === 0) : ticks, describe: (n) => `${Math.round(n).toLocaleString("en-US")} tokens`},
      y: {log: false, max: max ?? undefined, label: name, short: name, format: decimals}, rules: [],
      series: runs.map((run, i) => ({
        label: run.label, name: `${run.label}, seed ${run.seed}`, ...look(run.colour), thin,
        named: runs.findIndex((other) => other.label === run.label) === i, points: rows(run),
      })).filter((line) => line.points.length),
    });
    const frame = state.training === "loss" ? data.training_frame.loss : null;
    Chart.draw(find("#training-loss"), spec(label, (run) => run.rows.map((row) => ({x: row[0], y: row[column]})), true, frame));
    const bits = (run) => run.valid.map(([x, y]) => ({x, y}));
    Chart.draw(find("#training-valid"), spec("validation bits per byte", bits, false, data.training_frame.valid_bits_per_byte));
  }

  function drawTables() {
    for (const node of all(".study")) node.classList.toggle("off", Number(node.dataset.study) !== state.study);
    for (const node of all(".table[data-metric]")) node.classList.toggle("off", node.dataset.metric !== state.metric);
  }

  function drawControls() {
    const metrics = data.studies.length ? data.studies[state.study].metrics : [""];
    if (!metrics.includes(state.metric)) state.metric = metrics[0];
    for (const button of all("[data-set]")) {
      const [key, value] = button.dataset.set.split("=");
      button.setAttribute("aria-pressed", String(state[key]) === value || (value === "toggle" && state[key]));
      if (key === "metric") button.disabled = !metrics.includes(value);
      if (key === "scale" && state.metric === "gap") button.setAttribute("aria-pressed", value === "linear");
      if (key === "scale") button.disabled = state.metric === "gap"; // a gap may be negative
    }
    for (const button of all(".legend button")) button.setAttribute("aria-pressed", String(!state.hidden.has(button.dataset.label)));
  }

  function draw() {
    drawControls();
    drawTables();
    drawLengths();
    drawPositions();
    drawTraining();
  }

  function emphasise(label) {
    for (const group of all(".chart g[data-label]")) group.classList.toggle("faded", label !== null && group.dataset.label !== label);
  }

  function buildLegends() {
    const lines = new Map();
    for (const line of [...data.studies.flatMap((study) => study.lines), ...(data.positions || {lines: []}).lines, ...data.training]) lines.set(line.label, line.colour);
    for (const host of all(".legend"))
      for (const [label, number] of lines) {
        const button = Object.assign(document.createElement("button"), {type: "button", title: "Click: show or hide. Double click: this one alone."});
        button.dataset.label = label;
        Chart.swatch(button, look(number).colour, look(number).marker);
        button.append(label);
        button.addEventListener("click", () => { state.hidden.has(label) ? state.hidden.delete(label) : state.hidden.add(label); emphasise(null); draw(); });
        button.addEventListener("dblclick", () => {
          const alone = [...lines.keys()].every((other) => other === label || state.hidden.has(other));
          state.hidden = new Set(alone ? [] : [...lines.keys()].filter((other) => other !== label));
          draw();
        });
        for (const [event, target] of [["pointerenter", label], ["pointerleave", null], ["focus", label], ["blur", null]])
          button.addEventListener(event, () => emphasise(state.hidden.has(label) ? null : target));
        host.append(button);
      }
    for (const node of all("[data-line]")) {
      const {colour, marker} = look(Number(node.dataset.line));
      Chart.swatch(node, colour, marker);
    }
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
    find("#theme").textContent = name === "dark" ? "Light" : "Dark";
  }

  buildLegends();
  for (const button of all("[data-set]"))
    button.addEventListener("click", () => {
      const [key, value] = button.dataset.set.split("=");
      state[key] = value === "toggle" ? !state[key] : key === "study" ? Number(value) : value;
      draw();
    });
  const system = matchMedia("(prefers-color-scheme: dark)");
  theme(system.matches ? "dark" : "light");
  system.addEventListener("change", () => theme(system.matches ? "dark" : "light"));
  find("#theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  addEventListener("beforeprint", () => all("details").forEach((node) => { node.open = true; }));
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; draw(); } });
  draw();
})();
