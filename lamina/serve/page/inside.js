// Inside a model, from the raw numbers through its layers to the answer: what moves the units of each layer, what a line reads from it, what
// it makes of one's own value; one artificial neuron opened; and the report of the training.
import { filter, made, picture, short, table } from "/page/draw.js";

const share = (value) => `${Math.round(100 * value)} %`;

export function inside(model, { told, send, button, field, choose }) {
  const here = (what) => `/models/${encodeURIComponent(model.id)}/${what}`;
  const answer = made("div"), stages = made("ol", { className: "stages" }), opened = made("div"), parts = [], slots = new Map();
  opened.setAttribute("role", "status");
  let given = null;

  async function openUnit(layer, number) {
    const unit = await told(here(`units/${encodeURIComponent(layer)}/${number}`), send(given));
    const rows = unit.strongest.map((each) => [each.source, short(each.signal), short(each.weight), short(each.signal * each.weight)]);
    opened.replaceChildren(made("h3", { textContent: `One artificial neuron: ${layer}, unit ${number}` }), table(["signal from below", "signal", "× weight", "="], rows, "Its strongest connections"),
      made("p", { textContent: `All ${unit.inputs} together ${short(unit.total)}, bias ${short(unit.bias)}; after normalization and activation function it passes on ${short(unit.passed_on)}.` }));
  }

  // a layer's place on the way: what it is, and where its maps of one's own value are put
  function stage(layer, ...more) {
    const slot = made("div", { className: "row tight" }), what = [layer.kind.replaceAll("_", " "), layer.shape.join(" × ") || "1", ...(layer.parameters ? [`${layer.parameters.toLocaleString("en")} weights`] : [])];
    slots.set(layer.name, slot);
    return made("li", {}, made("h3", {}, layer.name, made("span", { className: "soft", textContent: ` ${what.join(", ")}` })), ...more, slot);
  }

  function known(layer) {
    const more = [];
    if (layer.reads !== null) more.push(made("p", { className: "reads" }, made("meter", { min: 0, max: 1, value: layer.reads, ariaLabel: `A straight line reads, after ${layer.name}` }), ` a straight line reads ${share(layer.reads)} of the answers here${layer.random === null ? "" : `, ${share(layer.random)} with random weights`}`));
    for (const unit of layer.units.filter((one) => one.pictures.length)) {
      const words = `unit ${unit.number}${unit.label ? `, most by ${unit.label}` : ""}`;
      more.push(made("figure", { className: "movers" }, ...unit.pictures.map((source) => made("img", { src: source, alt: "", width: 44, height: 44 })), made("figcaption", { textContent: words })));
    }
    return stage(layer, ...more);
  }

  async function open() {
    if (stages.children.length) return;
    if (!model.atlas) Object.assign(model, await told(`/v1/models/${encodeURIComponent(model.id)}`));  // a training that has just ended is looked into a moment later
    if (!model.atlas) return;
    const found = await told(here("atlas"));
    const filters = found.filters.map((values, number) => filter(values, `filter ${number}`, 36));
    stages.replaceChildren(
      ...(filters.length ? [made("li", {}, made("h3", { textContent: "filters" }), made("div", { className: "row tight" }, ...filters), made("p", { className: "soft", textContent: "Of the first trained layer, as if they lay on the input." }))] : []),
      ...found.layers.map(known),
    );
  }

  async function show(value) {
    await open();
    const found = await told(here("follow"), send(value));
    given = value;
    if (!stages.children.length) stages.replaceChildren(...found.layers.map((layer) => stage(layer)));
    opened.replaceChildren();
    answer.replaceChildren(made("div", { className: "row" },
      ...(found.shown ? [made("img", { src: found.shown, alt: "what was given, as the network reads it", width: 112, className: "raw" })] : []),
      ...(found.answer ? [made("p", { className: "large", textContent: found.answer })] : [])));
    for (const layer of found.layers) {
      slots.get(layer.name)?.replaceChildren(...layer.maps.map((map, number) => {
        const words = layer.units.length ? `${layer.name}, unit ${layer.units[number]}` : layer.name, drawn = picture(map.map((row) => row.map((value) => value / 127)), words);
        if (!layer.opens || !layer.units.length) return drawn;
        const its = Object.assign(button("", () => openUnit(layer.name, layer.units[number])), { className: "unit", ariaLabel: `Open ${words}` });
        its.append(drawn);
        return its;
      }));
    }
  }

  const about = "Give it something: what each layer makes of it stands beside that layer, from the raw numbers to the answer. Orange is above 0, blue below.";
  const seen = model.atlas ? " The small pictures are parts of training examples that move a unit most." : "";
  parts.push(made("p", { textContent: about + seen }), ...choose(show), answer, opened, stages);
  const layer = made("input", { autocomplete: "off" }), number = made("input", { type: "number", min: 0, value: 0 });
  parts.push(made("details", {}, made("summary", { textContent: "Open one unit by its number" }), field("Layer", layer), field("Unit", number), button("Open it", async () => { if (!given) throw new Error("Give a value first."); await openUnit(layer.value.trim(), +number.value); })));
  if (model.report) parts.push(made("details", {}, made("summary", { textContent: "The whole report of its training" }), made("iframe", { src: here("report"), title: "The report of the training", className: "report", loading: "lazy" })));
  return { parts, open };
}
