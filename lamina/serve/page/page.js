// The page of `lamina serve`: what a model can be asked decides what is shown. Nothing is loaded from anywhere else.
import { camera, microphone, pad } from "/page/devices.js";
import { intervals, made } from "/page/draw.js";
import { inside } from "/page/inside.js";
import { watch } from "/page/watch.js";

const at = (id) => document.getElementById(id);
let models = [], runs = [], model = null, stopDevice = () => {}, watching = null, opening = {};

// ---------------------------------------------------------------- asking

class Trouble extends Error {}

function headers(more = {}) {
  const token = sessionStorage.getItem("token");
  return token ? { ...more, Authorization: "Bearer " + token } : more;
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.status === 401) { at("token-form").hidden = false; at("token").focus(); throw new Trouble("A token is needed."); }
  if (!answer.ok) throw new Trouble((await answer.json()).error.message);
  return answer;
}
const told = async (path, options) => (await ask(path, options)).json();
const json = (value) => ({ method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } });
const here = (action) => `/models/${encodeURIComponent(model.id)}/${action}`;
// a value that was given: a file or what a device took, { text } or { rows }
const send = (value) => (value instanceof Blob ? { method: "POST", body: value, headers: { "Content-Type": "application/octet-stream" } } : value.rows ? json(value) : { method: "POST", body: value.text, headers: { "Content-Type": "text/plain" } });

async function act(work, button) {
  at("trouble").textContent = "";
  if (button) button.disabled = true;
  try { await work(); } catch (error) { at("trouble").textContent = error.message; }
  if (!button) return;
  button.disabled = false;
  if (document.activeElement === document.body) button.focus();  // a button that was disabled had lost it
}

// ---------------------------------------------------------------- making elements

function button(words, work) {
  const its = made("button", { type: "button", textContent: words });
  its.onclick = () => act(() => work(its), its);
  return its;
}
let fields = 0;
function field(words, element) {
  element.id = element.id || `field-${fields += 1}`;
  return made("label", { htmlFor: element.id }, words, " ", element);
}
const share = (value) => (100 * value).toFixed(1) + " %";

// ---------------------------------------------------------------- answers

function showPrediction(found) {
  const its = found.predictions[0], parts = [];
  if (its.error) parts.push(made("p", { className: "no", textContent: its.error }));
  else if (model.actions.includes("transcribe")) {
    parts.push(made("p", { className: "large", textContent: its.label || "(nothing was said)" }));
    if (its.words.length) {
      const rows = its.words.map((word) => made("tr", {}, made("td", { textContent: word.text }), made("td", { textContent: `${word.start.toFixed(2)} to ${word.end.toFixed(2)} s` }), made("td", { textContent: share(word.confidence) })));
      parts.push(made("table", {}, made("tbody", {}, ...rows)));
    }
  } else if (its.low !== null) {
    parts.push(made("p", { className: "large", textContent: its.label }));
    parts.push(made("p", { className: "soft", textContent: `Nine in ten are between ${its.low.toPrecision(4)} and ${its.high.toPrecision(4)}.` }));
  } else {
    parts.push(made("p", { className: "large", textContent: its.unknown ? `none of these (nearest: ${its.top[0].label})` : its.label }));
    const rows = its.top.map((guess) => made("tr", {}, made("th", { scope: "row", textContent: guess.label }), made("td", { textContent: share(guess.probability) }), made("td", {}, made("meter", { min: 0, max: 1, value: guess.probability, ariaLabel: guess.label }))));
    parts.push(made("table", {}, made("tbody", {}, ...rows)));
  }
  at("answer").replaceChildren(...parts);
}

async function predict(value) {
  const asked = model, found = await told(here(model.actions[0]), send(value));
  if (model === asked) showPrediction(found);
}

// ---------------------------------------------------------------- what is shown for each kind of model

function dropZone(words, take) {
  const file = made("input", { type: "file" });
  file.onchange = () => file.files[0] && act(() => take(file.files[0]));
  const zone = made("div", { className: "drop" }, field(words, file));
  zone.ondragover = (event) => { event.preventDefault(); zone.classList.add("over"); };
  zone.ondragleave = () => zone.classList.remove("over");
  zone.ondrop = (event) => { event.preventDefault(); zone.classList.remove("over"); act(() => take(event.dataTransfer.files[0])); };
  return zone;
}

function device(open, words, take, shows) {
  const place = made("div"), its = button(words, async (its) => {
    if (place.firstChild) { stopDevice(); place.replaceChildren(); its.setAttribute("aria-pressed", "false"); return; }
    stopDevice();
    const opened = await open();
    if (its.offsetParent === null) { opened.stop(); return; }  // the view was left while permission was asked
    stopDevice = opened.stop;
    place.replaceChildren(opened.element, made("div", { className: "row" }, button(shows, async () => take(await opened.take()))));
    its.setAttribute("aria-pressed", "true");
  });
  return made("div", {}, made("div", { className: "row" }, its), place);
}

const of = {
  image: (take) => [
    dropZone("A picture, dropped here or chosen", take), device(camera, "Camera", take, "Take it"), device(async () => pad(model.side), "Draw", take, "What is it?"),
  ],
  audio: (take) => [dropZone("A recording, dropped here or chosen", take), device(microphone, "Microphone", take, "Record")],
  text: (take) => {
    const text = made("textarea");
    return [field("A text", text), button("What is it?", () => take({ text: text.value }))];
  },
  vector: (take) => {
    const inputs = model.columns.map((column) => {
      const input = column.values.length ? made("select", {}, made("option", { value: "", textContent: "(missing)" }), ...column.values.map((value) => made("option", { value, textContent: value }))) : made("input", { inputMode: "decimal" });
      input.dataset.column = column.name;
      return input;
    });
    const grid = made("div", { className: "columns" }, ...inputs.map((input) => field(input.dataset.column, input)));
    return [grid, button("What is it?", async () => {
      const row = Object.fromEntries(inputs.map((input) => [input.dataset.column, input.value === "" ? null : input.value]));
      await take({ rows: [row] });
    })];
  },
};
of.speech = of.audio;
of.history = () => [];

function recommends() {
  const chosen = [], list = made("ul", { className: "chips" }), options = made("datalist", { id: "items" }), box = made("input", { autocomplete: "off" });
  box.setAttribute("list", "items");
  const draw = () => list.replaceChildren(...chosen.map((title, number) => made("li", {}, button(`${title} ×`, async () => { chosen.splice(number, 1); draw(); }))));
  box.oninput = () => act(async () => {
    const found = await told(here("items") + "?like=" + encodeURIComponent(box.value));
    if (found.titles.includes(box.value)) { chosen.push(box.value); box.value = ""; draw(); }
    options.replaceChildren(...found.titles.map((value) => made("option", { value })));
  });
  return [field("What was chosen, the latest last", box), options, list, button("What next?", async () => {
    const found = await told(here("recommend"), json({ items: chosen, top: 10 }));
    const rows = found.recommendations.map((one, rank) => made("tr", {}, made("td", { textContent: rank + 1 }), made("th", { scope: "row", textContent: one.title }), made("td", { className: "soft", textContent: one.because.length ? "because of " + one.because.join(", ") : "" })));
    at("answer").replaceChildren(made("table", {}, made("tbody", {}, ...rows)));
  })];
}

async function stream(path, tell, options = {}) {
  const answer = await ask(path, options), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n\n");
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) tell(JSON.parse(line.slice(6)));
  }
}

function generates() {
  const begun = made("textarea"), heat = made("input", { type: "range", min: 0, max: 1.5, step: 0.1, value: 0.8 }), count = made("input", { type: "number", min: 1, max: 2000, value: 200 });
  return [field("How it begins", begun), field("Temperature", heat), field("Tokens", count), button("Go on", async () => {
    const said = made("p", { className: "said", textContent: begun.value });
    at("answer").replaceChildren(said);
    at("answer").setAttribute("aria-busy", "true");  // a screen reader is to read it once
    try {
      await stream("/v1/completions", (event) => { said.textContent += event.choices[0]?.text ?? ""; }, json({ model: model.id, prompt: begun.value, temperature: +heat.value, max_tokens: +count.value, stream: true }));
    } finally { at("answer").removeAttribute("aria-busy"); }
  })];
}

function chats() {
  const turns = [], box = made("input", { autocomplete: "off" }), log = made("div", { role: "log", ariaLabel: "The talk" });
  const say = async () => {
    const words = box.value.trim();
    if (!words) return;
    box.value = "";
    turns.push({ role: "user", content: words });
    const said = made("p", { className: "said" });
    log.append(made("p", { className: "said own", textContent: words }), said);
    await stream("/v1/chat/completions", (event) => { said.textContent += event.choices[0]?.delta.content ?? ""; }, json({ model: model.id, messages: turns, stream: true }));
    turns.push({ role: "assistant", content: said.textContent || "…" });
  };
  const send = button("Say it", say), form = made("form", {}, field("You", box), send);
  form.onsubmit = (event) => { event.preventDefault(); act(say, send); };
  return [log, form];
}

function people() {
  const name = made("input", { autocomplete: "off" }), admin = made("input", { type: "password", autocomplete: "off", value: sessionStorage.getItem("admin") ?? "" }), listed = made("ul", { className: "chips" }), open = model.input === "image" ? camera : microphone;
  let opened = null;
  const taken = async () => {
    opened = opened || await open();
    stopDevice = () => { opened?.stop(); opened = null; };
    if (!opened.element.isConnected) place.replaceChildren(opened.element);
    return opened.take();
  };
  const person = () => { if (!name.value.trim()) { name.focus(); throw new Trouble("A name is needed."); } return encodeURIComponent(name.value.trim()); };
  const its = model, place = made("div"), decided = (found) => its === model && at("answer").replaceChildren(
    made("p", { className: "large " + (found.accepted ? "yes" : "no"), textContent: found.accepted ? `Unlocked: ${found.name}` : "Refused" }),
    made("p", { className: "soft", textContent: found.reason || `likeness ${found.likeness.toFixed(3)}, threshold ${found.threshold.toFixed(3)}` }),
  );
  const asAdmin = () => ({ "X-Admin-Token": admin.value });
  const list = async () => {
    if (!admin.value) return;
    const found = await told(here("people"), { headers: asAdmin() });
    listed.replaceChildren(...found.people.map((each) => made("li", {}, button(`Forget ${each.name}`, async () => { await ask(here(`people/${encodeURIComponent(each.name)}`), { method: "DELETE", headers: asAdmin() }); await list(); }))));
    warning.textContent = `Convenience, not security. ${found.rate} ${found.warning}`;
  };
  const warning = made("p", { className: "soft" });
  act(list);
  return [
    field("Name", name), field("Admin token, to enroll", admin), place,
    made("div", { className: "row" },
      button("Enroll", async () => {
        const whom = person(), form = new FormData();
        for (let number = 0; number < (model.input === "image" ? 3 : 2); number += 1) form.append("file", await taken(), String(number));
        const found = await told(here(`people/${whom}`), { method: "POST", body: form, headers: asAdmin() });
        sessionStorage.setItem("admin", admin.value);
        await list();
        at("answer").replaceChildren(made("p", { className: "large yes", textContent: `${found.name} is enrolled with ${found.examples} examples` }), made("p", { className: "soft", textContent: found.refused.join("; ") }));
      }),
      button("Unlock as this person", async () => decided(await told(here(`verify/${person()}`), { method: "POST", body: await taken(), headers: { "Content-Type": "application/octet-stream" } }))),
      button("Who is it?", async () => decided(await told(here("identify"), { method: "POST", body: await taken(), headers: { "Content-Type": "application/octet-stream" } }))),
    ),
    listed, warning,
  ];
}

function controls() {
  if (model.actions.includes("recommend")) return recommends();
  if (model.actions.includes("chat")) return chats();
  if (model.actions.includes("generate")) return generates();
  if (model.actions.includes("verify")) return people();
  return of[model.input](predict);
}

// ---------------------------------------------------------------- the whole

async function showMistakes() {
  const found = model.report ? (await told(here("mistakes"))).mistakes : [];
  at("mistakes-title").hidden = !found.length;
  at("mistakes").replaceChildren(...found.map((one) => made("li", {},
    ...(one.picture ? [made("img", { src: one.picture, alt: "", width: 84 })] : []),
    ...(one.sound ? [made("audio", { src: one.sound, controls: true, preload: "none", ariaLabel: one.name })] : []),
    made("span", {}, "told ", made("b", { textContent: one.told || "(nothing)" })), made("span", { textContent: `it is ${one.true}` }), made("span", { className: "soft", textContent: one.name }))));
}

function showVerdict() {
  if (!model.verdict) return;
  at("chart").replaceChildren(intervals(model.contenders.map((one) => ({ name: one.kind, value: one.value, low: one.low, high: one.high, told: one.told })), `${model.contenders[0]?.score_name ?? "score"} by contender`));
  at("sentence").textContent = model.verdict;
  at("contenders").querySelector("caption").textContent = `${model.contenders[0]?.score_name ?? ""}, with 95 % intervals`;
  at("contenders").tBodies[0].replaceChildren(...model.contenders.map((one) => made("tr", {}, made("th", { scope: "row", textContent: one.kind }), made("td", { textContent: one.name }), made("td", { textContent: one.told }))));
}

const VIEWS = { watch: "Watch", try: "Try it", inside: "Inside", verdict: "Verdict" };

function show(view) {
  for (const name of Object.keys(VIEWS)) at(name).hidden = name !== view;
  for (const its of at("views").children) its.dataset.view === view ? its.setAttribute("aria-current", "page") : its.removeAttribute("aria-current");
}

function views(...names) {
  at("views").replaceChildren(...names.map((name) => Object.assign(button(VIEWS[name], async () => { stopDevice(); stopDevice = () => {}; show(name); await opening[name]?.(); }), { id: `to-${name}` })));
  for (const its of at("views").children) its.dataset.view = its.id.slice(3);
  show(names[0]);
}

function mark(which) {
  for (const its of at("models").children) its.dataset.name === which ? its.setAttribute("aria-current", "page") : its.removeAttribute("aria-current");
  document.title = `${which}: Lamina`;
  at("answer").replaceChildren();
  at("trouble").textContent = "";
}

function choose(which, first = "try") {
  stopDevice();
  stopDevice = () => {};
  model = which;
  mark(which.id);
  at("question").textContent = which.question;
  at("controls").replaceChildren(...controls());
  const opened = model.input !== "history" ? inside(model, { told, send, button, field, choose: of[model.input] ?? (() => []) }) : { parts: [] };
  at("within").replaceChildren(...opened.parts);
  opening = { inside: opened.open, verdict: showMistakes };
  showVerdict();
  const names = [...(watching?.name === which.id ? ["watch"] : []), "try", ...(opened.parts.length ? ["inside"] : []), ...(model.verdict ? ["verdict"] : [])];
  views(...names);
  show(first);
}

function observe(run) {
  watching?.stop();
  const over = async () => {
    for (let tries = 0; tries < 60; tries += 1) {  // the model is opened by the server in a moment
      models = (await told("/v1/models")).data;
      const which = models.find((one) => one.id === run.name);
      if (which) { const kept = watching; list(); choose(which, "watch"); watching = kept; return; }
      await new Promise((done) => setTimeout(done, 500));
    }
  };
  const its = watch(run, { told, ask, json, stream, button, over: () => act(over) });
  watching = { name: run.name, stop: its.stop };
  at("seen").replaceChildren(its.element);
  mark(run.name);
  views("watch");
}

function list() {
  const waiting = runs.filter((run) => !models.some((one) => one.id === run.name));
  const buttons = [...models.map((one) => [one.id, () => choose(one)]), ...waiting.map((run) => [run.name, () => observe(run)])];
  at("models").replaceChildren(...buttons.map(([name, open]) => { const its = button(name, async () => open()); its.dataset.name = name; return its; }));
}

async function begin() {
  const given = new URLSearchParams(location.hash.slice(1)).get("admin");
  if (given) { sessionStorage.setItem("admin", given); history.replaceState(null, "", location.pathname); }
  [models, runs] = [(await told("/v1/models")).data, (await told("/runs")).runs];
  at("token-form").hidden = true;
  list();
  models.length ? choose(models[0]) : observe(runs[0]);
}
at("token-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  act(begin);
};
act(begin);
