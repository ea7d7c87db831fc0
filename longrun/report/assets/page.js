// The page's state (lines, metric, protocol, scale); every figure and table follows it. The charts are described by
// charts.py; this file adds what the reader chose.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const find = (selector) => document.querySelector(selector);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const first = data.studies.length ? Object.keys(data.studies[0])[0] : "";
  const state = {study: 0, metric: first, scale: "log", bands: true, controls: true, training: "loss", hidden: new Set()};

  const minus = (text) => (Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−"));
  function perplexity(value, tick) {
    if (value >= 1e6) return value.toExponential(tick ? 0 : 1).replace("e+", "e");
    if (value >= 1000) return Math.round(value).toLocaleString("en-US");
    return tick ? String(Number(value.toPrecision(3))) : value.toFixed(value >= 100 ? 1 : 2);
  }
  const decimals = (value, tick) => minus(tick ? String(Number(value.toPrecision(3))) : value.toFixed(3));
  const signed = (value, tick) => (tick || Math.abs(value) < 0.0005 ? decimals(value, tick) : (value > 0 ? "+" : "") + decimals(value));
  const FORMATS = {perplexity, decimals, signed}; // as number_format.py
  const look = (number) => ({colour: number % 8, marker: (number + 3 * Math.floor(number / 8)) % 8}); // as palette.py
  const point = ([x, y, lo, hi]) => ({x, y, lo, hi});

  // What Chart.draw needs, from a description and the state. detail: the panel that enlarges the lower end.
  function spec(chart, {height, detail = false, log = false, bands = false, early = true, every = 1}) {
    const subs = new Map(chart.x.ticks.map(([at, , sub]) => [at, sub]));
    return {
      height, ends: true, early, bands, describe: chart.description,
      title: chart.detail === null ? chart.title : detail ? "Detail of the lower end" : "Whole range",
      x: {
        log: chart.x.log, label: chart.x.label,
        ticks: chart.x.ticks.filter((_, i) => i % every === 0).map(([at, text, sub]) => ({at, text, sub})),
        describe: (n) => chart.x.pointer.replace("{}", Math.round(n).toLocaleString("en-US")) + (subs.get(n) ? `, ${subs.get(n)}` : ""),
      },
      y: {
        log: log && chart.y.log && !detail, max: (detail ? chart.detail : chart.y.range[1]) ?? undefined,
        label: chart.y.label, short: chart.y.short, format: FORMATS[chart.y.format],
      },
      rules: chart.train_lengths.map((n) => ({at: n, text: `trained at ${n.toLocaleString("en-US")}`})),
      series: chart.series.filter((line) => !state.hidden.has(line.label)).map((line) => ({
        ...line, ...look(line.style), named: line.in_legend,
        points: line.points.map(point), control: state.controls ? line.control.map(point) : [],
      })),
    };
  }

  // One panel, or two if the chart has a detail.
  function drawPanels(name, chart, options) {
    const split = chart.detail !== null;
    find(`#${name}`).classList.toggle("single", !split);
    find(`#${name}-detail`).classList.toggle("off", !split);
    Chart.draw(find(`#${name}-full`), spec(chart, {...options, early: options.early ?? !split}));
    if (split) Chart.draw(find(`#${name}-detail`), spec(chart, {...options, detail: true}));
  }

  function drawFigures() {
    if (data.studies.length) {
      const {chart, caption} = data.studies[state.study][state.metric];
      drawPanels("lengths", chart, {height: 400, bands: state.bands, log: state.scale === "log"});
      find("#lengths-caption").textContent = caption;
    }
    if (data.positions) {
      const every = find("#positions-full").clientWidth < 620 ? 2 : 1;
      drawPanels("positions", data.positions, {height: 380, bands: state.bands, early: true, every});
    }
    if (data.training) {
      Chart.draw(find("#training-loss"), spec(data.training[state.training], {height: 330}));
      Chart.draw(find("#training-valid"), spec(data.training.valid, {height: 330}));
    }
  }

  function drawTables() {
    for (const node of all(".study")) node.classList.toggle("off", Number(node.dataset.study) !== state.study);
    for (const node of all(".table[data-metric]")) node.classList.toggle("off", node.dataset.metric !== state.metric);
  }

  function drawControls() {
    const metrics = data.studies.length ? Object.keys(data.studies[state.study]) : [""];
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
    drawFigures();
  }

  function emphasise(label) {
    for (const group of all(".chart g[data-label]")) group.classList.toggle("faded", label !== null && group.dataset.label !== label);
  }

  function legendButton(label, number, labels) {
    const button = Object.assign(document.createElement("button"), {type: "button", title: "Click: show or hide. Double click: this one alone."});
    button.dataset.label = label;
    Chart.swatch(button, look(number).colour, look(number).marker);
    button.append(label);
    button.addEventListener("click", () => { state.hidden.has(label) ? state.hidden.delete(label) : state.hidden.add(label); emphasise(null); draw(); });
    button.addEventListener("dblclick", () => {
      const others = labels.filter((other) => other !== label);
      state.hidden = new Set(others.every((other) => state.hidden.has(other)) ? [] : others);
      draw();
    });
    for (const [event, target] of [["pointerenter", label], ["pointerleave", null], ["focus", label], ["blur", null]])
      button.addEventListener(event, () => emphasise(state.hidden.has(label) ? null : target));
    return button;
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
    find("#theme").textContent = name === "dark" ? "Light" : "Dark";
  }

  for (const host of all(".legend"))
    for (const [label, number] of Object.entries(data.lines)) host.append(legendButton(label, number, Object.keys(data.lines)));
  for (const node of all("[data-line]")) {
    const {colour, marker} = look(Number(node.dataset.line));
    Chart.swatch(node, colour, marker);
  }
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
