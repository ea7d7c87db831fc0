"use strict";
// A line chart in SVG, drawn from plain values. Chart.draw(host, spec) replaces what was in `host`.
// spec: {height, title, describe, ends (labels at line ends), early (also of lines that stop early), bands,
//        x: {log, label, ticks: [{at, text, sub}]},  y: {log, label, max, format},
//        rules: [{at, text}],
//        series: [{label, name, colour, marker, points: [{x, y, lo, hi}], control: [{x, y}], ending}]}
const Chart = (() => {
  const SHAPES = [
    (r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`,
    (r) => polygon(4, r * 1.25, Math.PI / 4),
    (r) => polygon(3, r * 1.35, -Math.PI / 2),
    (r) => polygon(4, r * 1.3, 0),
    (r) => polygon(3, r * 1.35, Math.PI / 2),
    (r) => cross(r, 0),
    (r) => cross(r, Math.PI / 4),
    (r) => polygon(5, r * 1.2, -Math.PI / 2),
  ];

  function polygon(n, r, turn) {
    const corners = Array.from({length: n}, (_, i) => turn + (2 * Math.PI * i) / n);
    return `M${corners.map((a) => `${(r * Math.cos(a)).toFixed(2)} ${(r * Math.sin(a)).toFixed(2)}`).join("L")}Z`;
  }

  function cross(r, turn) {
    const w = r * 0.45, R = r * 1.25;
    const outline = [[w, -R], [w, -w], [R, -w], [R, w], [w, w], [w, R], [-w, R], [-w, w], [-R, w], [-R, -w], [-w, -w], [-w, -R]];
    const c = Math.cos(turn), s = Math.sin(turn);
    return `M${outline.map(([x, y]) => `${(x * c - y * s).toFixed(2)} ${(x * s + y * c).toFixed(2)}`).join("L")}Z`;
  }

  function svg(name, attributes, parent, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  const ink = (colour) => `var(--line-${colour})`;
  const lettering = (colour) => `fill: color-mix(in srgb, ${ink(colour)} 62%, var(--ink))`; // text needs more contrast than lines
  const finite = (value) => typeof value === "number" && Number.isFinite(value);

  function swatch(host, colour, marker) {
    const box = svg("svg", {viewBox: "-11 -6 22 12", width: 22, height: 12, "aria-hidden": "true", class: "swatch"}, host);
    svg("line", {x1: -11, x2: 11, y1: 0, y2: 0, stroke: ink(colour), "stroke-width": 2}, box);
    svg("path", {d: SHAPES[marker](3.6), fill: ink(colour)}, box);
  }

  function scale(log, low, high, from, to) {
    const f = log ? Math.log2 : (v) => v;
    const a = f(low), span = f(high) - a || 1;
    return (value) => from + ((f(value) - a) / span) * (to - from);
  }

  function linearTicks(low, high, wanted) {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 2.5, 5, 10].find((m) => m * power >= raw * 0.999);
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({length: Math.floor(high / step + 1e-9) - first + 1}, (_, i) => Number(((first + i) * step).toPrecision(12)));
  }

  function logTicks(low, high, wanted) {
    for (const leads of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
      const found = [];
      for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
        for (const lead of leads) if (lead * 10 ** p >= low * 0.999 && lead * 10 ** p <= high * 1.001) found.push(lead * 10 ** p);
      if (found.length >= Math.min(4, wanted)) return found.length > 9 ? found.filter((_, i) => i % 2 === 0) : found;
    }
    return linearTicks(low, high, wanted).filter((value) => value > 0);
  }

  function domain(spec) {
    const values = [];
    for (const line of spec.series)
      for (const p of [...line.points, ...(line.control || [])]) values.push(p.y, ...(spec.bands ? [p.lo, p.hi] : []));
    const known = values.filter((v) => finite(v) && (!spec.y.log || v > 0));
    if (!known.length) return [0, 1];
    let low = Math.min(...known), high = Math.max(...known);
    if (finite(spec.y.max) && spec.y.max > low) high = Math.min(high, spec.y.max);
    if (spec.y.log) return high / low < 1.05 ? [low / 1.1, high * 1.1] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
    const pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + (finite(spec.y.max) ? 0 : pad)];
  }

  function layout(host, spec) {
    const width = Math.max(260, host.clientWidth || 560), ends = spec.ends && width >= 460;
    const longest = Math.max(...spec.series.map((line) => line.label.length), 4);
    const right = ends ? Math.min(180, longest * 7.2 + 20) : 14;
    const xs = spec.series.flatMap((line) => [...line.points, ...(line.control || [])].map((p) => p.x)).concat(spec.x.ticks.map((t) => t.at));
    const box = {width, height: spec.height, left: 58, right: width - right, top: 16, bottom: spec.height - (spec.x.ticks.some((t) => t.sub) ? 56 : 44), ends};
    const [low, high] = domain(spec);
    const inset = spec.x.log ? 12 : 0;
    return {...box, low, high, x: scale(spec.x.log, Math.min(...xs), Math.max(...xs), box.left + inset, box.right - inset), y: scale(spec.y.log, low, high, box.bottom, box.top)};
  }

  function axes(root, box, spec) {
    for (const {at} of spec.rules.slice(0, 1))
      svg("rect", {class: "beyond", x: box.x(at), y: box.top, width: Math.max(0, box.right - box.x(at)), height: box.bottom - box.top}, root);
    const wanted = Math.round((box.bottom - box.top) / 55);
    const ticks = spec.y.log ? logTicks(box.low, box.high, wanted) : linearTicks(box.low, box.high, wanted);
    const digits = spec.y.log ? null : Math.max(0, ...ticks.map((t) => (String(t).split(".")[1] || "").length));
    for (const value of ticks) {
      svg("line", {class: value === 0 && box.low < 0 ? "axis" : "grid", x1: box.left, x2: box.right, y1: box.y(value), y2: box.y(value)}, root);
      const text = spec.y.log || Math.abs(value) >= 1e4 ? spec.y.format(value, true) : value.toFixed(digits).replace("-", "−");
      svg("text", {x: box.left - 8, y: box.y(value) + 4, "text-anchor": "end"}, root, text);
    }
    svg("line", {class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom}, root);
    for (const tick of spec.x.ticks) {
      svg("line", {class: "axis", x1: box.x(tick.at), x2: box.x(tick.at), y1: box.bottom, y2: box.bottom + 4}, root);
      svg("text", {x: box.x(tick.at), y: box.bottom + 17, "text-anchor": "middle"}, root, tick.text);
      if (tick.sub) svg("text", {x: box.x(tick.at), y: box.bottom + 31, "text-anchor": "middle", opacity: 0.75}, root, tick.sub);
    }
    svg("text", {x: (box.left + box.right) / 2, y: box.height - 5, "text-anchor": "middle"}, root, spec.x.label);
    const middle = (box.top + box.bottom) / 2;
    svg("text", {x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})`}, root, spec.y.label);
    for (const {at, text} of spec.rules) {
      svg("line", {class: "rule", x1: box.x(at), x2: box.x(at), y1: box.top, y2: box.bottom}, root);
      svg("text", {x: box.x(at) + 5, y: box.top - 4}, root, text);
    }
  }

  const path = (points) => points.map((p, i) => `${i ? "L" : "M"}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("");

  function lines(root, box, spec) {
    const id = `clip-${Math.random().toString(36).slice(2)}`;
    const clip = svg("clipPath", {id}, svg("defs", {}, root));
    const over = finite(spec.y.max) ? 0 : 6; // a framed chart cuts its lines at the frame, another leaves room for markers
    svg("rect", {x: box.left, y: box.top - over, width: box.right - box.left + 6, height: box.bottom - box.top + over + 1}, clip);
    const area = svg("g", {"clip-path": `url(#${id})`}, root);
    for (const line of spec.series) {
      const group = svg("g", {"data-label": line.label}, area);
      const points = line.points.filter((p) => finite(p.y) && (!spec.y.log || p.y > 0));
      if (spec.bands && points.some((p) => p.hi > p.lo)) {
        const upper = points.map((p) => [box.x(p.x), box.y(p.hi)]), lower = points.map((p) => [box.x(p.x), box.y(p.lo)]);
        svg("path", {class: "band", d: path([...upper, ...lower.reverse()]) + "Z", fill: ink(line.colour)}, group);
      }
      const control = (line.control || []).filter((p) => finite(p.y));
      if (control.length) svg("path", {class: "control", d: path(control.map((p) => [box.x(p.x), box.y(p.y)])), stroke: ink(line.colour)}, group);
      svg("path", {class: "line", d: path(points.map((p) => [box.x(p.x), box.y(p.y)])), stroke: ink(line.colour), ...(line.thin ? {style: "stroke-width:1.3"} : {})}, group);
      if (line.thin) continue;
      for (const p of points)
        svg("path", {class: "marker", d: SHAPES[line.marker](4), fill: ink(line.colour), transform: `translate(${box.x(p.x).toFixed(1)} ${box.y(p.y).toFixed(1)})`}, group);
    }
  }

  function names(root, box, spec) {
    const end = Math.max(...spec.series.flatMap((line) => line.points.map((p) => p.x)));
    const labels = [];
    for (const line of spec.series.filter((each) => each.named !== false)) {
      const last = line.points.filter((p) => finite(p.y)).at(-1);
      if (!last || box.y(last.y) < box.top - 2) continue;
      const at = {line, x: box.x(last.x), y: box.y(last.y), early: last.x < end};
      if (at.early && spec.early === false) continue;
      if (at.early) {
        const group = svg("g", {"data-label": line.label}, root);
        svg("text", {class: "name", x: at.x + 9, y: at.y - 8, style: lettering(line.colour)}, group, line.ending || line.label);
      } else labels.push({...at, text: at.y});
    }
    labels.sort((a, b) => a.text - b.text);
    for (let i = 1; i < labels.length; i++) labels[i].text = Math.max(labels[i].text, labels[i - 1].text + 14);
    let floor = box.bottom + 2;
    for (const label of labels.toReversed()) floor = (label.text = Math.min(label.text, floor)) - 14;
    for (const {line, x, y, text} of labels) {
      const group = svg("g", {"data-label": line.label}, root);
      if (Math.abs(text - y) > 4) svg("path", {class: "leader", d: path([[x + 6, y], [box.right + 4, text]]), stroke: ink(line.colour)}, group);
      svg("text", {class: "name", x: box.right + 8, y: text + 4, style: lettering(line.colour)}, group, line.label);
    }
  }

  function draw(host, spec) {
    host.replaceChildren();
    if (spec.title) Object.assign(host.appendChild(document.createElement("h4")), {textContent: spec.title});
    const box = layout(host, spec);
    const root = svg("svg", {viewBox: `0 0 ${box.width} ${box.height}`, role: "img", tabindex: 0, "aria-label": spec.describe}, host);
    if (!spec.series.length) return svg("text", {x: box.width / 2, y: box.height / 2, "text-anchor": "middle"}, root, "every line is switched off");
    axes(root, box, spec);
    lines(root, box, spec);
    if (box.ends) names(root, box, spec);
    Hover.attach(host, root, box, spec, svg);
    return root;
  }

  return {draw, swatch, svg};
})();
