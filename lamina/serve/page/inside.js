// Inside a model: one's own value followed from the raw numbers to the answer, one artificial neuron opened, and the report of the training.
import { made, network, picture, short, table } from "/page/draw.js";

export function inside(model, { told, send, button, field, choose }) {
  const here = (what) => `/models/${encodeURIComponent(model.id)}/${what}`;
  const place = made("div"), opened = made("div"), parts = [];
  opened.setAttribute("role", "status");
  let given = null;

  async function openUnit(layer, number) {
    const unit = await told(here(`units/${encodeURIComponent(layer)}/${number}`), send(given));
    const rows = unit.strongest.map((each) => [each.source, short(each.signal), short(each.weight), short(each.signal * each.weight)]);
    opened.replaceChildren(made("h3", { textContent: `One artificial neuron: ${layer}, unit ${number}` }), table(["signal from below", "signal", "× weight", "="], rows, "Its strongest connections"),
      made("p", { textContent: `All ${unit.inputs} together ${short(unit.total)}, bias ${short(unit.bias)}; after normalization and activation function it passes on ${short(unit.passed_on)}.` }));
  }

  async function show(value) {
    given = value;
    const found = await told(here("follow"), send(value));
    opened.replaceChildren();
    place.replaceChildren(
      found.answer ? made("p", { className: "large", textContent: found.answer }) : "",
      made("div", { className: "flow" },
        ...(found.shown ? [made("figure", {}, made("img", { src: found.shown, alt: "what was given", width: 112 }), made("figcaption", { textContent: "raw" }))] : []),
        ...found.layers.map((layer) => made("figure", {},
          made("div", { className: "row tight" }, ...layer.maps.map((map, number) => {
            const drawn = picture(map.map((row) => row.map((value) => value / 127)), layer.units.length ? `${layer.name}, unit ${layer.units[number]}` : layer.name);
            if (!layer.opens) return drawn;
            return Object.assign(button("", () => openUnit(layer.name, layer.units[number])), { className: "unit", ariaLabel: `Open ${layer.name}, unit ${layer.units[number]}` }).appendChild(drawn).parentNode;
          })),
          made("figcaption", {}, made("b", { textContent: layer.name }), ` ${layer.kind.replaceAll("_", " ")}, ${layer.shape.join(" × ")}`)))),
    );
  }

  parts.push(made("p", { textContent: "Give it something: what each layer makes of it stands below, from the raw numbers to the answer. Orange is above 0, blue below." }), ...choose(show), place, opened);
  const layer = made("input", { autocomplete: "off" }), number = made("input", { type: "number", min: 0, value: 0 });
  parts.push(made("details", {}, made("summary", { textContent: "Open one unit by its number" }), field("Layer", layer), field("Unit", number), button("Open it", async () => { if (!given) throw new Error("Give a value first."); await openUnit(layer.value.trim(), +number.value); })));
  if (model.report) parts.push(made("h3", { textContent: "The whole report" }), made("p", { className: "soft", textContent: "What each layer is, sees and knows; how it came about; mistakes and the verdict." }), made("iframe", { src: here("report"), title: "The report of the training", className: "report" }));
  return parts;
}
