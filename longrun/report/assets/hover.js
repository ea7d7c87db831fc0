// Reaction of a chart to the pointer and to the arrow keys: a hairline and a small table of the values there.
const Hover = (() => {
  const NEAR = 9; // pixels within which a point counts as at the pointer

  function attach(host, root, box, spec, svg) {
    const hair = svg("line", {class: "hair", y1: box.top, y2: box.bottom, visibility: "hidden"}, root);
    const rings = svg("g", {}, root);
    const tip = Object.assign(host.appendChild(document.createElement("div")), {className: "tip", hidden: true});
    tip.setAttribute("role", "status");
    const stops = [...new Set(spec.series.flatMap((line) => line.points.map((p) => p.x)))].sort((a, b) => a - b);
    let current = -1;

    function show(index) {
      current = Math.max(0, Math.min(stops.length - 1, index));
      const at = box.x(stops[current]);
      hair.setAttribute("x1", at);
      hair.setAttribute("x2", at);
      hair.setAttribute("visibility", "visible");
      rings.replaceChildren();
      const rows = valuesAt(spec, box, stops[current]);
      for (const {line, point} of rows)
        if (box.y(point.y) >= box.top - 4)
          svg("circle", {cx: box.x(point.x), cy: box.y(point.y), r: 6.5, fill: "none", stroke: `var(--line-${line.colour})`, "stroke-width": 1.5}, rings);
      fill(tip, spec, stops[current], rows);
      tip.hidden = false;
      place(host, root, box, tip, at);
    }

    function hide() {
      tip.hidden = true;
      hair.setAttribute("visibility", "hidden");
      rings.replaceChildren();
    }

    root.addEventListener("pointermove", (event) => {
      const x = ((event.clientX - root.getBoundingClientRect().left) / root.getBoundingClientRect().width) * box.width;
      if (x < box.left - 10 || x > box.right + 10) return hide();
      const distance = stops.map((stop) => Math.abs(box.x(stop) - x));
      show(distance.indexOf(Math.min(...distance)));
    });
    root.addEventListener("pointerleave", hide);
    root.addEventListener("blur", hide);
    root.addEventListener("keydown", (event) => {
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show(current < 0 ? 0 : current + step);
    });
  }

  function valuesAt(spec, box, x) {
    const rows = [];
    for (const line of spec.series) {
      const known = line.points.filter((p) => Number.isFinite(p.y));
      const point = known.reduce((best, p) => (!best || Math.abs(p.x - x) < Math.abs(best.x - x) ? p : best), null);
      if (!point || Math.abs(box.x(point.x) - box.x(x)) > NEAR) continue;
      rows.push({line, point, control: (line.control || []).find((p) => p.x === point.x)});
    }
    return rows.sort((a, b) => b.point.y - a.point.y);
  }

  function fill(tip, spec, x, rows) {
    const text = (parent, tag, content) => Object.assign(parent.appendChild(document.createElement(tag)), {textContent: content});
    tip.replaceChildren();
    text(tip, "b", spec.x.describe(x));
    const table = tip.appendChild(document.createElement("table"));
    const ranges = rows.some(({point}) => point.hi > point.lo), controls = rows.some(({control}) => control);
    if (controls || ranges) {
      const head = table.createTHead().insertRow();
      for (const name of ["", spec.y.short, ...(ranges ? ["seeds"] : []), ...(controls ? ["window"] : [])]) text(head, "th", name);
    }
    for (const {line, point, control} of rows) {
      const row = table.appendChild(document.createElement("tr"));
      const name = row.appendChild(document.createElement("th"));
      Chart.swatch(name, line.colour, line.marker);
      name.append(line.name || line.label);
      text(row, "td", spec.y.format(point.y));
      if (ranges) text(row, "td", point.hi > point.lo ? `${spec.y.format(point.lo)}–${spec.y.format(point.hi)}` : "");
      if (controls) text(row, "td", control ? spec.y.format(control.y) : "–");
    }
  }

  function place(host, root, box, tip, at) {
    const unit = root.getBoundingClientRect().width / box.width;
    const room = host.clientWidth, width = tip.offsetWidth;
    const right = at * unit + 16;
    const left = right + width <= room ? right : at * unit - width - 16;
    tip.style.left = `${Math.max(0, Math.min(left, room - width))}px`;
    const above = root.getBoundingClientRect().top - host.getBoundingClientRect().top;
    tip.style.top = `${above + (box.top + 6) * unit}px`;
  }

  return {attach};
})();
