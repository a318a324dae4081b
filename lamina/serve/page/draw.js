// Pictures made of numbers: maps, curves, a network of named layers. Each has a label for those who do not see it.

const SVG = "http://www.w3.org/2000/svg";
export const COLORS = ["#3b82f6", "#d97706", "#10b981", "#dc2626", "#8b5cf6", "#a16207", "#ec4899", "#6b7280", "#84cc16", "#06b6d4"];

export function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export const short = (value) => (value === null || value === undefined ? "" : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : Number(value.toPrecision(3)).toString());

// rows[r][c] of numbers from -1 to 1: orange above 0, blue below it, black is nothing
export function picture(rows, label, side = 84) {
  const canvas = made("canvas", { width: rows[0].length, height: rows.length, className: "map" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const ink = canvas.getContext("2d"), image = ink.createImageData(canvas.width, canvas.height);
  rows.forEach((row, r) => row.forEach((value, c) => {
    const at = 4 * (r * canvas.width + c), strength = Math.min(1, Math.abs(value)) ** 0.7;
    const color = value >= 0 ? [255, 160, 40] : [70, 150, 255];
    for (let k = 0; k < 3; k += 1) image.data[at + k] = color[k] * strength;
    image.data[at + 3] = 255;
  }));
  ink.putImageData(image, 0, 0);
  const long = Math.max(canvas.width, canvas.height);
  canvas.style.width = `${Math.max(6, (side * canvas.width) / long)}px`;
  canvas.style.height = `${Math.max(6, (side * canvas.height) / long)}px`;
  return canvas;
}

// a filter [channels][rows][columns] of any numbers: three channels are colors, else their mean is gray
export function filter(channels, label, side = 48) {
  const rows = channels[0].length, columns = channels[0][0].length, canvas = made("canvas", { width: columns, height: rows, className: "map" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const largest = Math.max(1e-9, ...channels.flat(2).map(Math.abs)), ink = canvas.getContext("2d"), image = ink.createImageData(columns, rows);
  for (let r = 0; r < rows; r += 1) for (let c = 0; c < columns; c += 1) {
    const its = channels.map((channel) => 127 + (127 * channel[r][c]) / largest), gray = its.reduce((sum, value) => sum + value, 0) / its.length;
    image.data.set(its.length === 3 ? [...its, 255] : [gray, gray, gray, 255], 4 * (r * columns + c));
  }
  ink.putImageData(image, 0, 0);
  canvas.style.width = `${side}px`;
  canvas.style.height = `${(side * rows) / columns}px`;
  return canvas;
}

// series: [{name, color, points: [[x, y], …]}]
export function curves(series, { label, top = null, bottom = null, unit = "", most = null }) {
  const wide = 560, high = 200, left = 52, under = 26, points = series.flatMap((its) => its.points);
  const its = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label, class: "curves" });
  if (!points.length) return its;
  const ys = points.map((point) => point[1]), low = bottom ?? Math.min(...ys), up = Math.max(top ?? Math.max(...ys), low + 1e-9), last = most ?? Math.max(1, ...points.map((point) => point[0]));
  const x = (value) => left + ((wide - left - 8) * value) / last, y = (value) => high - under - ((high - under - 12) * (value - low)) / (up - low);
  for (const value of [low, (low + up) / 2, up]) {
    its.append(svg("line", { x1: left, x2: wide - 8, y1: y(value), y2: y(value), class: "grid" }));
    const words = svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" });
    words.textContent = short(value) + unit;
    its.append(words);
  }
  const end = svg("text", { x: wide - 8, y: high - 8, "text-anchor": "end" });
  end.textContent = `step ${Math.round(last).toLocaleString("en")}`;
  its.append(end);
  for (const one of series) {
    if (!one.points.length) continue;
    const path = one.points.map((point, number) => `${number ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(Math.min(up, Math.max(low, point[1]))).toFixed(1)}`).join("");
    its.append(svg("path", { d: path, fill: "none", stroke: one.color, "stroke-width": 2 }));
    if (one.dots) for (const point of one.points) its.append(svg("circle", { cx: x(point[0]), cy: y(point[1]), r: 3, fill: one.color }));
  }
  return its;
}

// a flat map of examples: places [[x, y], …] with the number of the class of each
export function scatter(places, truths, labels, label) {
  const its = svg("svg", { viewBox: "-1.25 -1.25 2.5 2.5", role: "img", "aria-label": label, class: "scatter" });
  const far = Math.max(1, ...places.flat().map(Math.abs));
  places.forEach(([x, y], number) => {
    const dot = svg("circle", { cx: (1.2 * x) / far, cy: (-1.2 * y) / far, r: 0.035, fill: COLORS[truths[number] % COLORS.length] }), title = svg("title");
    title.textContent = labels[truths[number]] ?? "";
    dot.append(title);
    its.append(dot);
  });
  return its;
}

// values with their intervals, a line each: [{name, value, low, high, told}]
export function intervals(rows, label) {
  const wide = 560, high = 34 * rows.length + 8, left = 90, low = Math.min(...rows.map((row) => row.low)), up = Math.max(...rows.map((row) => row.high)), reach = Math.max(up - low, 1e-9);
  const x = (value) => left + 10 + ((wide - left - 30) * (value - low)) / reach;
  const its = svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${label}: ${rows.map((row) => `${row.name} ${row.told}`).join("; ")}`, class: "curves" });
  rows.forEach((row, number) => {
    const y = 34 * number + 20, color = COLORS[number % COLORS.length], words = svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" });
    words.textContent = row.name;
    its.append(words, svg("line", { x1: left, x2: wide - 8, y1: y, y2: y, class: "grid" }), svg("line", { x1: x(row.low), x2: x(row.high), y1: y, y2: y, stroke: color, "stroke-width": 3 }), svg("circle", { cx: x(row.value), cy: y, r: 6, fill: color }));
  });
  return its;
}

// the named layers in their order; each a button with its name and what it puts out
export function network(layers, choose) {
  const list = made("ol", { className: "network" });
  for (const layer of layers) {
    const its = made("button", { type: "button" }, made("b", { textContent: layer.name }), made("span", { textContent: layer.kind.replaceAll("_", " ") }), made("span", { className: "soft", textContent: layer.shape.join(" × ") || "1" }));
    its.dataset.layer = layer.name;
    if (choose) its.onclick = () => choose(layer, its); else its.disabled = true;
    list.append(made("li", {}, its));
  }
  return list;
}

export function table(head, rows, caption = "") {
  const its = made("table", {}, made("thead", {}, made("tr", {}, ...head.map((words) => made("th", { scope: "col", textContent: words })))), made("tbody", {}, ...rows.map((row) => made("tr", {}, ...row.map((cell, place) => made(place ? "td" : "th", place ? { textContent: cell } : { scope: "row", textContent: cell }))))));
  if (caption) its.prepend(made("caption", { className: "soft", textContent: caption }));
  return made("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption || head.join(", ") }, its);
}
