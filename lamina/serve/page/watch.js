// A training as it goes: its curves, its network, what it sees at its moments, one step in slow motion; pause, stop and keep.
import { COLORS, curves, filter, made, network, picture, scatter, short, table } from "/page/draw.js";

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const minutes = (seconds) => (seconds < 90 ? `${Math.max(0, Math.round(seconds))} s` : `${(seconds / 60).toFixed(1)} minutes`);

export function watch(first, { told, ask, json, stream, button, over }) {
  const here = (what) => `/runs/${encodeURIComponent(first.name)}${what}`;
  const now = made("p", { className: "large" }), ends = made("p", { className: "soft" }), lossPlace = made("div"), scorePlace = made("div");
  const layersPlace = made("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "The network's layers" }), moment = made("div"), motion = made("p", { className: "motion" });
  motion.setAttribute("role", "status");
  let run = first, loss = [], held = [], score = [], begun = null, latest = null, look = null, shownLooks = 0, paused = false, drawn = false, alive = true, moving = false;

  const pause = button("Pause", async () => { await ask(here("/control"), json({ action: paused ? "go-on" : "pause" })); paused = !paused; pause.textContent = paused ? "Go on" : "Pause"; });
  const stop = button("Stop and keep", async () => { await ask(here("/control"), json({ action: "stop" })); ends.textContent = "It ends soon: the rate falls to 0, then the network is tested and saved."; });
  const slow = button("One step in slow motion", () => slowly());
  slow.disabled = true;

  function redraw() {
    drawn = false;
    const most = latest?.steps ?? run.plan.steps ?? null;
    lossPlace.replaceChildren(curves([{ name: "loss", color: COLORS[0], points: loss }, { name: "held out", color: COLORS[1], points: held, dots: true }], { label: `Loss by step${loss.length ? `, now ${short(loss.at(-1)[1])}` : ""}`, bottom: 0, most }));
    scorePlace.replaceChildren(curves([{ name: "score", color: COLORS[2], points: score, dots: true }], { label: `Score on held-out examples by step${score.length ? `, now ${(100 * score.at(-1)[1]).toFixed(1)} %` : ""}`, bottom: 0, top: 1, most }));
    scorePlace.hidden = !score.length;
  }
  const soon = () => { if (!drawn) { drawn = true; requestAnimationFrame(redraw); } };

  function hear(event) {
    if (event.event === "started") { loss = []; held = []; score = []; latest = { ...event }; begun = null; now.textContent = event.leg === "final" ? "It learns." : `It learns (${event.leg}).`; }
    if (event.event === "before") { loss.push([0, event.loss]); if (event.score !== null) score.push([0, event.score]); }
    if (event.event === "stepped") {
      begun = begun ?? [event.time, event.step];
      latest = { ...latest, ...event };
      loss.push([event.step, event.loss]);
      if (loss.length > 600) loss = loss.filter((_, number) => number % 2 || number === loss.length - 1);
      const speed = (event.step - begun[1]) / Math.max(0.1, event.time - begun[0]), left = (latest.steps - event.step) / Math.max(1e-6, speed);
      now.textContent = `Step ${event.step.toLocaleString("en")} of ${latest.steps.toLocaleString("en")}: loss ${short(event.loss)}`;
      if (event.step > begun[1]) ends.textContent = `${Math.round(event.examples_per_second).toLocaleString("en")} examples a second; the steps end in about ${minutes(left)}, at ${new Date(Date.now() + 1000 * left).toLocaleTimeString()}.`;
    }
    if (event.event === "checked") { held.push([event.step, event.loss]); if (event.score !== null) score.push([event.step, event.score]); }
    if (event.event === "revised" && event.kind === "steps") latest = { ...latest, steps: event.value };
    if (event.event === "paused") { paused = event.seconds === 0; pause.textContent = paused ? "Go on" : "Pause"; if (paused) now.textContent = `Paused at step ${event.step}.`; begun = null; }
    if (event.event === "finished") now.textContent = `Trained: ${event.step.toLocaleString("en")} steps in ${minutes(event.seconds)}. Now it is tested, judged and saved.`;
    soon();
  }

  function showLook() {
    const parts = [], f = look.filters;
    parts.push(made("h3", { textContent: `At step ${look.step.toLocaleString("en")}` }));
    if (f.values?.length) parts.push(made("p", { className: "soft", textContent: `The first trained filters (${f.layer}), as if they lay on the input` }), made("div", { className: "row" }, ...f.values.map((values, number) => filter(values, `Filter ${f.units?.[number] ?? number}`))));
    if (look.score !== null) parts.push(made("p", {}, `A straight line reads ${(100 * look.score).toFixed(1)} % of held-out answers after the last hidden layer.`));
    if (look.places.length) parts.push(made("figure", {}, scatter(look.places, look.truths, run.labels, "A flat map of held-out examples, colored by class"), made("figcaption", { className: "soft", textContent: "Each dot is a held-out example, its color the class it is of." })));
    const rows = look.followed.filter((layer) => layer.maps.length);
    parts.push(made("p", { className: "soft", textContent: "One held-out example, followed:" }), made("div", { className: "flow" }, ...(look.shown ? [made("figure", {}, made("img", { src: look.shown, alt: "the example", width: 84 }), made("figcaption", { textContent: "raw" }))] : []), ...rows.map((layer) => made("figure", {}, made("div", { className: "row tight" }, ...layer.maps.slice(0, 2).map((map, number) => picture(map.map((row) => row.map((value) => value / 127)), `${layer.name}, map ${number + 1}`))), made("figcaption", { textContent: layer.name })))));
    moment.replaceChildren(...parts);
    slow.disabled = moving;
  }

  async function slowly() {
    const step = look.opened, by = Object.fromEntries(step.layers.map((layer) => [layer.name, layer])), names = step.layers.map((layer) => layer.name);
    if (still()) {
      motion.textContent = `Loss ${short(step.loss)} before the step, ${short(step.after)} after it.`;
      motion.after(table(["layer", "signals", "above 0", "gradient", "change of weights"], step.layers.map((layer) => [layer.name, `${short(layer.mean)} ± ${short(layer.deviation)}`, `${Math.round(100 * layer.passed)} %`, short(layer.gradient), short(layer.change)]), "One training step"));
      return;
    }
    moving = true;
    slow.disabled = true;
    const mark = (name, kind) => { for (const its of layersPlace.querySelectorAll("button")) its.className = its.dataset.layer === name ? kind : ""; layersPlace.querySelector(`[data-layer="${name}"]`)?.scrollIntoView({ block: "nearest", inline: "center" }); };
    for (const name of names) { mark(name, "forward"); motion.textContent = `Forward: ${name} puts out ${short(by[name].mean)} ± ${short(by[name].deviation)}; ${Math.round(100 * by[name].passed)} % are above 0.`; await wait(700); }
    motion.textContent = `Loss: ${short(step.loss)}${step.clueless === null ? "" : ` (a guess that knows nothing: ${short(step.clueless)})`}.`;
    await wait(1200);
    for (const name of [...names].reverse()) { if (!by[name].gradient) continue; mark(name, "backward"); motion.textContent = `Backward: the error asks ${name} for a change, gradient ${short(by[name].gradient)}.`; await wait(700); }
    for (const name of names) { if (!by[name].change) continue; mark(name, "update"); motion.textContent = `Update: the weights of ${name}, of length ${short(by[name].weights)}, move by ${short(by[name].change)}.`; await wait(500); }
    mark("", "");
    motion.textContent = `After this one step the loss on the same examples is ${short(step.after)}; before it was ${short(step.loss)}.`;
    moving = false;
    slow.disabled = false;
  }

  // events as they come; a stream that ends early (a server ends none later than it must) is taken up where it was left
  const left = new AbortController();
  let next = 0;
  async function events() {
    while (alive) {
      await stream(here(`/events?since=${next}`), (event) => { next = event.number + 1; hear(event); }, { signal: left.signal }).catch(() => {});
      await wait(1000);
    }
  }

  async function moments() {
    for (let missed = 0; alive;) {
      try { run = await told(here("")); missed = 0; } catch (error) {
        missed += 1;
        if (missed > 5) throw error;
        await wait(2000);
        continue;
      }
      if (run.layers.length && !layersPlace.firstChild) layersPlace.replaceChildren(network(run.layers));
      if (run.looks > shownLooks && !moving) { shownLooks = run.looks; look = await told(here(`/looks/${run.looks - 1}`)); showLook(); }
      if (run.finished) { pause.disabled = stop.disabled = true; now.textContent = "Finished: tested, judged and saved."; ends.textContent = ""; alive = false; over(run); return; }
      await wait(1000);
    }
  }

  now.textContent = "The data are read …";
  events();
  moments().catch(() => { if (alive) ends.textContent = "The training is gone: stopped, or its process ended. Nothing is lost; `lamina resume` goes on."; });
  redraw();
  const element = made("div", {}, now, ends, made("div", { className: "row" }, pause, stop, slow), motion,
    made("h3", { textContent: "Loss" }), made("p", { className: "soft", textContent: "blue: training; orange: held-out examples" }), lossPlace,
    made("h3", { textContent: "Score" }), scorePlace, made("h3", { textContent: "The network" }), layersPlace, moment);
  return { element, stop: () => { alive = false; left.abort(); } };
}
