/** Shows which values of a model carry a fact, and whether one weight can be edited to change it (ROME). */
import { AdamW, argmax, crossEntropy, type FloatTensor, GPT, type IntTensor, mean, mul, narrow } from "heed";
import { noGrad, reshape, scope, softmax, sum, tensor } from "heed";
import { addTo, causalTrace, type PatchSite, replaceWith, run, runWithCache, runWithGradients } from "heed/inspect";
import { type Draw, drawFrom, shuffled } from "./draw.js";
import { type Experiment, type Page, percent, sections, table } from "./experiment.js";
import {
  drawBatch,
  type Fact,
  factVocabulary,
  longestPrefix,
  otherObject,
  places,
  plantFacts,
  sentence,
} from "./planted-facts.js";
import { meanOf, percentWithMargin } from "./seeds.js";
import { rankOneUpdate } from "./rome.js";
import { stepOf } from "./training.js";

const sites = ["hook_resid_pre", "hook_attn_out", "hook_mlp_out"] as const satisfies readonly PatchSite[];
type Site = (typeof sites)[number];
const siteNames: Record<Site, string> = {
  hook_resid_pre: "residual stream",
  hook_attn_out: "attention",
  hook_mlp_out: "MLP",
};
/** Number of filler words before the sentences that are examined. */
const prefix = 2;
const lastName = prefix + 1;
const lastWord = prefix + 3;
/** Positions at which a fact is edited. */
const editPlaces = { subject: lastName, last: lastWord } as const;
type EditAt = keyof typeof editPlaces;
const editNames: Record<EditAt, string> = { subject: "last name", last: "last word" };

/** Outcome of an edit, or the means of several. */
interface Outcome {
  /** Share of edits after which the model gives the new answer. */
  edited: number;
  /** Share of edits after which it gives the new answer to the other phrasing. */
  paraphrased: number;
  /** Share of the same subject's other facts whose answer stays. */
  sameSubject: number;
  /** Share of other subjects' facts of the same relation whose answer stays. */
  sameRelation: number;
  /** Share of all other facts whose answer stays. */
  others: number;
}

/** Outcome of edits at one layer and one position, as means over the edited facts. */
interface Edits extends Outcome {
  layer: number;
  at: EditAt;
}

interface Run {
  seed: number;
  steps: number;
  accuracy: number;
  clean: number;
  corrupted: number;
  /** Share of what the noise destroys that comes back: `restored[site][layer][position]`. */
  restored: Record<Site, number[][]>;
  /** Share that comes back if all MLPs of a position are restored together: `[position]`. */
  together: number[];
  /** Share of facts that stay right without one MLP at one position: `[layer][position]`. */
  without: number[][];
  edits: Edits[];
}

interface Result {
  subjects: number;
  facts: number;
  layers: number;
  width: number;
  parameters: number;
  edited: number;
  draws: number;
  runs: Run[];
}

interface Size {
  subjects: number;
  layers: number;
  width: number;
  steps: number;
  batchSize: number;
  draws: number;
  edited: number;
}

/** Returns the sentences of facts after the same number of filler words, i32 [B, T]. */
function sentencesOf(facts: readonly Fact[], phrasing: number, draw: Draw): IntTensor {
  const rows = facts.map((fact) => sentence(fact, phrasing, prefix, draw));
  return tensor(Int32Array.from(rows.flat()), [rows.length, prefix + places.length]);
}

/** Trains a model until it knows the facts. Resolves to the number of steps that it took. */
async function learn(model: GPT, facts: readonly Fact[], size: Size, draw: Draw): Promise<number> {
  using optimizer = new AdamW(model.namedParameters(), { beta2: 0.98, weightDecay: 0.01, maxNorm: 1 });
  for (let step = 1; step <= size.steps; step++) {
    optimizer.lr = 2e-3 * Math.min(1, step / 50) * Math.min(1, (size.steps - step + 1) / (0.3 * size.steps));
    const { ids, targets, length } = drawBatch(facts, size.batchSize, draw);
    using input = tensor(ids, [size.batchSize, length]);
    using following = tensor(targets, [size.batchSize, length]);
    await stepOf(model, optimizer, input, following);
  }
  return size.steps;
}

/** Resolves to the model's answers to sentences [B, T]. */
async function answersTo(model: GPT, ids: IntTensor, hooks = {}): Promise<Int32Array> {
  using best = noGrad(() => scope(() => argmax(lastOf(run(model, ids, { hooks })))));
  return await best.data();
}

/** Returns the logits of the last position, [B, V], of logits [B, T, V]. */
function lastOf(logits: FloatTensor): FloatTensor {
  const [batch, tokens, vocabulary] = logits.shape as [number, number, number];
  return reshape(narrow(logits, 1, tokens - 1, 1), [batch, vocabulary]);
}

/** Returns a function that measures the mean probability of the right answers. */
function probabilityOf(facts: readonly Fact[], oneHot: FloatTensor): (logits: FloatTensor) => FloatTensor {
  return (logits) => mul(sum(mul(softmax(lastOf(logits)), oneHot)), 1 / facts.length);
}

function oneHotOf(facts: readonly Fact[]): FloatTensor {
  const values = new Float32Array(facts.length * factVocabulary);
  facts.forEach(({ object }, i) => (values[i * factVocabulary + object] = 1));
  return tensor(values, [facts.length, factVocabulary]);
}

type Trace = Pick<Run, "clean" | "corrupted" | "restored" | "together">;

/** Traces facts: noise on the names, and one value at a time restored. */
async function trace(model: GPT, facts: readonly Fact[], size: Size, draw: Draw): Promise<Trace> {
  const many = Array.from({ length: size.draws }, (_, i) => facts[i % facts.length]!);
  using ids = sentencesOf(many, 0, draw);
  using oneHot = oneHotOf(many);
  const weights = await model.wte.weight.data();
  const spread = Math.sqrt(meanOf(Array.from(weights, (weight) => weight ** 2)));
  const options = { subject: [prefix, lastName], noise: 3 * spread, metric: probabilityOf(many, oneHot) };
  const restored = {} as Run["restored"];
  let [clean, corrupted] = [0, 0];
  const share = (value: number): number => (value - corrupted) / (clean - corrupted);
  const grid = (patched: number[][]): number[][] => patched.map((row) => row.slice(prefix).map(share));
  for (const site of sites) {
    const found = await causalTrace(model, ids, { ...options, site });
    ({ clean, corrupted } = found);
    restored[site] = grid(found.patched);
  }
  const { layers } = model.config;
  const all = await causalTrace(model, ids, { ...options, site: "hook_mlp_out", window: layers });
  // The window around the middle layer is the one that covers all layers.
  return { clean, corrupted, restored, together: grid(all.patched)[Math.floor(layers / 2)]! };
}

/** Resolves to the share of facts that stay right if one MLP's output at one position is replaced by its mean. */
async function ablations(model: GPT, facts: readonly Fact[], draw: Draw): Promise<number[][]> {
  using ids = sentencesOf(facts, 0, draw);
  using cache = runWithCache(model, ids, { names: /hook_mlp_out$/ });
  const shares: number[][] = [];
  for (let layer = 0; layer < model.config.layers; layer++) {
    const name = `blocks.${layer}.hook_mlp_out` as const;
    using average = noGrad(() => mean(cache.get(name), { axes: [0] })); // [T, C]
    const row: number[] = [];
    for (const place of places.keys()) {
      const hooks = { [name]: replaceWith(average, { positions: [prefix + place] }) };
      const found = await answersTo(model, ids, hooks);
      row.push(facts.filter(({ object }, i) => found[i] === object).length / facts.length);
    }
    shares.push(row);
  }
  return shares;
}

/** Edits facts one at a time and compares the model's answers to all facts before and after. */
class Editor {
  readonly #questions: IntTensor[];
  #before: Int32Array[] = [];

  constructor(
    readonly model: GPT,
    readonly facts: readonly Fact[],
    readonly draw: Draw,
  ) {
    this.#questions = [0, 1].map((phrasing) => sentencesOf(facts, phrasing, draw));
  }

  /** Resolves to what became of some edits at one layer and position. */
  async try(layer: number, at: EditAt, chosen: readonly number[]): Promise<Edits> {
    this.#before = await this.#answers();
    const moment = await this.#secondMoment(layer);
    const outcomes: Outcome[] = [];
    for (const index of chosen) outcomes.push(await this.#edit(layer, editPlaces[at], index, moment));
    const average = (name: keyof Outcome): number => meanOf(outcomes.map((one) => one[name]));
    return {
      ...{ layer, at, edited: average("edited"), paraphrased: average("paraphrased") },
      ...{ sameSubject: average("sameSubject"), sameRelation: average("sameRelation"), others: average("others") },
    };
  }

  dispose(): void {
    for (const ids of this.#questions) ids.dispose();
  }

  #answers(): Promise<Int32Array[]> {
    return Promise.all(this.#questions.map((ids) => answersTo(this.model, ids)));
  }

  /** Resolves to the mean of k kᵀ over the inputs k of the layer's second product, [hidden · hidden]. */
  async #secondMoment(layer: number): Promise<Float64Array> {
    const { ids, length } = drawBatch(this.facts, 512, this.draw);
    using input = tensor(ids, [512, length]);
    const name = `blocks.${layer}.mlp.hook_post` as const;
    using cache = runWithCache(this.model, input, { names: name });
    const keys = await cache.get(name).data();
    const { feedForwardWidth: hidden } = this.model.config;
    const rows = keys.length / hidden;
    const moment = new Float64Array(hidden * hidden);
    for (let row = 0; row < rows; row++) {
      const key = keys.subarray(row * hidden, (row + 1) * hidden);
      for (let i = 0; i < hidden; i++) {
        const factor = key[i]! / rows;
        if (factor === 0) continue;
        for (let j = 0; j < hidden; j++) moment[i * hidden + j]! += factor * key[j]!;
      }
    }
    return moment;
  }

  async #edit(layer: number, position: number, index: number, moment: Float64Array): Promise<Outcome> {
    const { model, facts } = this;
    const fact = facts[index]!;
    const wanted = otherObject(fact, this.draw);
    using contexts = sentencesOf(Array<Fact>(8).fill(fact), 0, this.draw);
    const key = await this.#key(layer, position, contexts);
    const change = await this.#wantedChange(layer, position, contexts, wanted);
    const { weight } = model.h[layer]!.mlp.c_proj; // [hidden, C]
    const before = (await weight.data()).slice();
    weight.set(rankOneUpdate(before, key, change, moment));
    const after = await this.#answers();
    weight.set(before);
    const stays = (phrasing: number, i: number): boolean => after[phrasing]![i] === this.#before[phrasing]![i];
    const kept = (belongs: (other: Fact) => boolean): number =>
      meanOf(
        facts.flatMap((other, i) =>
          other !== fact && belongs(other) ? [Number(stays(0, i)), Number(stays(1, i))] : [],
        ),
      );
    return {
      edited: Number(after[0]![index] === wanted),
      paraphrased: Number(after[1]![index] === wanted),
      sameSubject: kept(({ subject }) => subject === fact.subject),
      sameRelation: kept(({ subject, relation }) => subject !== fact.subject && relation === fact.relation),
      others: kept(({ subject, relation }) => subject !== fact.subject && relation !== fact.relation),
    };
  }

  /** Resolves to the mean input of the layer's second product at a position, [hidden]. */
  async #key(layer: number, position: number, contexts: IntTensor): Promise<Float32Array> {
    const name = `blocks.${layer}.mlp.hook_post` as const;
    using cache = runWithCache(this.model, contexts, { names: name });
    using average = noGrad(() => scope(() => mean(narrow(cache.get(name), 1, position, 1), { axes: [0, 1] })));
    return await average.data();
  }

  /** Resolves to what the MLP must add at a position so that the model gives the wanted answer, [C] (Adam). */
  async #wantedChange(layer: number, position: number, contexts: IntTensor, wanted: number): Promise<Float32Array> {
    const name = `blocks.${layer}.hook_mlp_out` as const;
    const [rows] = contexts.shape as [number];
    using targets = tensor(new Int32Array(rows).fill(wanted));
    const metric = (logits: FloatTensor): FloatTensor => crossEntropy(lastOf(logits), targets);
    const { width } = this.model.config;
    const change = new Float32Array(width);
    const [first, second] = [new Float64Array(width), new Float64Array(width)];
    for (let step = 1; step <= 60; step++) {
      using added = tensor(change, [width]);
      using found = runWithGradients(this.model, contexts, metric, {
        names: name,
        hooks: { [name]: addTo(added, { positions: [position] }) },
      });
      if ((await found.metric.item()) < 0.05) break;
      using gradient = noGrad(() =>
        scope(() => sum(narrow(found.gradients.get(name), 1, position, 1), { axes: [0, 1] })),
      );
      for (const [i, slope] of (await gradient.data()).entries()) {
        first[i] = 0.9 * first[i]! + 0.1 * slope;
        second[i] = 0.99 * second[i]! + 0.01 * slope ** 2;
        const [m, v] = [first[i] / (1 - 0.9 ** step), second[i] / (1 - 0.99 ** step)];
        change[i]! -= (0.2 * m) / (Math.sqrt(v) + 1e-8);
      }
    }
    return change;
  }
}

async function measure(seed: number, size: Size): Promise<{ run: Run; parameters: number; facts: number }> {
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const facts = plantFacts(size.subjects, draw);
  const { layers, width } = size;
  const contextLength = longestPrefix + places.length;
  using model = new GPT({ vocabularySize: factVocabulary, contextLength, layers, heads: 4, width }, { seed });
  const steps = await learn(model, facts, size, draw);
  using ids = sentencesOf(facts, 0, draw);
  const found = await answersTo(model, ids);
  const accuracy = facts.filter(({ object }, i) => found[i] === object).length / facts.length;
  const traced = await trace(model, shuffled(facts, draw), size, draw);
  const without = await ablations(model, facts, draw);
  const editor = new Editor(model, facts, draw);
  const chosen = shuffled([...facts.keys()], draw).slice(0, size.edited);
  const edits: Edits[] = [];
  for (const at of Object.keys(editPlaces) as EditAt[])
    for (let layer = 0; layer < layers; layer++) edits.push(await editor.try(layer, at, chosen));
  editor.dispose();
  return {
    run: { seed, steps, accuracy, ...traced, without, edits },
    parameters: model.parameterCount(),
    facts: facts.length,
  };
}

/** Returns grids as one that has the means of their cells. */
function averageGrid(grids: readonly number[][][]): number[][] {
  return grids[0]!.map((row, layer) => row.map((_, place) => meanOf(grids.map((grid) => grid[layer]![place]!))));
}

/** Returns the share that comes back if a site is restored, as means over the seeds: `[layer][position]`. */
function restoredAt(runs: readonly Run[], site: Site): number[][] {
  return averageGrid(runs.map(({ restored }) => restored[site]));
}

/** Returns the layer and the position of the MLP that brings back most. */
function bestMlp(runs: readonly Run[]): [layer: number, place: number] {
  const cells = restoredAt(runs, "hook_mlp_out").flatMap((row, layer) =>
    row.map((share, place) => ({ layer, place, share })),
  );
  const { layer, place } = cells.sort((a, b) => b.share - a.share)[0]!;
  return [layer, place];
}

/** Returns a number of the edits at one position and one layer, one for each seed. */
function editsOf(runs: readonly Run[], at: EditAt, layer: number, name: keyof Outcome): number[] {
  return runs.map(({ edits }) => edits.find((one) => one.at === at && one.layer === layer)![name]);
}

/** Returns the end of the page: what follows from the numbers. */
function conclusion({ layers, runs }: Result): string {
  const [bestLayer, bestPlace] = bestMlp(runs);
  const mean = (value: (run: Run) => number): string => percent(meanOf(runs.map(value)));
  const edit = (at: EditAt, layer: number, name: keyof Outcome): number => meanOf(editsOf(runs, at, layer, name));
  const all = Array.from({ length: layers }, (_, layer) => layer);
  const restored = restoredAt(runs, "hook_mlp_out");
  const restores = (layer: number): number => restored[layer]![bestPlace]!;
  const weakest = all.reduce((least, layer) => (restores(layer) < restores(least) ? layer : least));
  const atLast = meanOf(all.map((layer) => edit("last", layer, "edited")));
  const bestAtName = all.reduce((best, layer) =>
    edit("subject", layer, "edited") > edit("subject", best, "edited") ? layer : best,
  );
  return `## Conclusion

**What carries a fact.** The MLP of layer ${bestLayer} at the ${places[bestPlace]} is the single strongest place, and it is needed: without it
${mean((run) => run.without[bestLayer]![bestPlace]!)} of the facts stay right. It is not enough: restored alone it brings back ${percent(restores(bestLayer))}. All MLPs of the
position together bring back ${mean((run) => run.together[bestPlace]!)}; the rest is in what attention carries there.
A fact of these models is not in one place but on a way: the names, attention, and the MLP that meets name and relation.

**What an edit shows.** Edits at the last word give the new answer in ${percent(atLast)} of the cases, averaged over layers. In layer ${weakest},
whose MLP brings back only ${percent(restores(weakest))} there, it is ${percent(edit("last", weakest, "edited"))}. So an edit works where tracing finds little, as Hase et al.
say: that a weight can be made to give an answer does not show that the answer was there. At the last name, the best layer for
edits is ${bestAtName} (${percent(edit("subject", bestAtName, "edited"))}), but only ${percent(edit("subject", bestAtName, "sameSubject"))} of the subject's other answers stay: there the model does not yet know which
relation is asked for, so that what is added for one relation is added for all.

**What stays.** Facts of other subjects hardly notice an edit: ${percent(meanOf(all.map((layer) => edit("last", layer, "sameRelation"))))} of those of the same relation and ${percent(meanOf(all.map((layer) => edit("last", layer, "others"))))} of the others
keep their answer after edits at the last word. The update of rank one spares keys that are not like its own.

## Where it differs from the papers, and why

Meng et al. find the early site at the last token of the subject, in the middle layers of GPT-2 XL. These models have
few layers and are trained on the answer alone, so that nothing rewards looking facts up before the relation is known, and
they mostly wait for it. The value for an edit is found without the paper's term that keeps the model's idea of the subject,
which may be why other facts of a subject change after edits at its name.`;
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

Which values of a trained model carry a fact, and is there a single weight that holds it?

## What the papers say

Meng et al. 2022 ("Locating and Editing Factual Associations in GPT", arXiv:2202.05262) blur the subject of a sentence with
noise and restore one value of the clean run at a time (*causal tracing*). The MLPs of middle layers at the last token
of the subject bring most of the answer back. They conclude that these MLPs hold the fact, and change it with an edit of
rank one to one weight (ROME). Hase et al. 2023 ("Does Localization Inform Editing?", arXiv:2301.04213) find that edits
succeed as well in layers where tracing finds nothing.`;

/** Returns the section on the method. */
function method({ subjects, facts, layers, width, parameters, edited, draws, runs }: Result): string {
  return `## Method

A GPT with ${layers} layers, a width of ${width} and ${parameters} parameters learns ${facts} facts that do not exist anywhere else:
${subjects} subjects, each with a first and a last name that others share, times 4 relations, each with one of 12 answers
drawn at random. A sentence is 0 to ${longestPrefix} filler words, the two names, and two words that name the relation in one of two
phrasings; only the answer after them is trained. Everything is repeated with ${runs.length} seeds, which set facts, weights and
order; the models then know ${percentWithMargin(runs.map((run) => run.accuracy))} of their facts.

- **Causal tracing** (\`causalTrace\`): both names get normal noise with three times the standard deviation of the
  embeddings, in ${draws} sentences with one draw each. The value of a cell is the share of the lost probability of the
  right answer that comes back if one value is restored.
- **Ablation**: one MLP's output at one position is replaced by its mean over all facts.
- **ROME**: ${edited} facts for each seed get another answer of the same relation. The key is the mean input of the MLP's second
  weight over 8 prefixes; the value is found by gradient descent (Adam) on what the MLP adds; the weight gets the update
  of rank one that maps the key to the value and changes other inputs least, by their second moment. Each edit is made
  in one layer, at the last name or at the last word, and undone before the next.`;
}

/** Returns the section on what comes back if values are restored, and on what is lost without them. */
function traceSection({ runs }: Result): string {
  const percents = (shares: readonly number[]): string[] => shares.map((share) => percent(share));
  const traceRows = sites.flatMap((site) =>
    restoredAt(runs, site).map((row, layer) => [siteNames[site], layer, ...percents(row)]),
  );
  const without = averageGrid(runs.map((run) => run.without)).map((row, layer) => [layer, ...percents(row)]);
  const [bestLayer, bestPlace] = bestMlp(runs);
  const byLayer = runs.map(({ restored }) => restored.hook_mlp_out.map((row) => row[bestPlace]!));
  const single = byLayer.map((shares) => Math.max(...shares));
  const summed = byLayer.map((shares) => shares.reduce((total, share) => total + share, 0));
  const together = runs.map((run) => run.together[bestPlace]!);
  return `## What comes back

![What the MLP of one layer brings back](plot:trace)

${table(["restored", "layer", ...places], traceRows)}

The best single MLP is that of layer ${bestLayer} at the ${places[bestPlace]}. The best MLP at this position brings back
${percentWithMargin(single)}, all MLPs of the position together ${percentWithMargin(together)}, and the sum over single layers is
${percentWithMargin(summed)}. (Clean probability: ${percentWithMargin(runs.map((run) => run.clean))}; with noise: ${percentWithMargin(runs.map((run) => run.corrupted))}.)

The next table has the share of facts that stay right **without** the MLP of one layer at one position:

${table(["layer", ...places], without)}`;
}

/** Returns the section on edits. */
function editSection({ layers, runs }: Result): string {
  const outcomes = ["edited", "paraphrased", "sameSubject", "sameRelation", "others"] as const;
  const rows = (Object.keys(editPlaces) as EditAt[]).flatMap((at) =>
    Array.from({ length: layers }, (_, layer) => [
      editNames[at],
      layer,
      ...outcomes.map((name) => percentWithMargin(editsOf(runs, at, layer, name))),
    ]),
  );
  return `## What an edit changes

${table(["edited at", "layer", "new answer", "in the other phrasing", "same subject stays", "same relation stays", "others stay"], rows)}

All intervals are 95 % intervals over the seeds (Student's t).`;
}

function plotsOf({ runs }: Result): Page["plots"] {
  const grid = restoredAt(runs, "hook_mlp_out");
  return {
    trace: {
      title: "Share of the lost probability that one MLP brings back",
      x: { title: "layer" },
      y: { title: "share" },
      lines: Object.fromEntries(places.map((place, i) => [place, grid.map((row, layer) => [layer, row[i]!])])),
    },
  };
}

export const storedFacts: Experiment<Result> = {
  name: "stored-facts",
  title: "Where are facts stored?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? { subjects: 4, layers: 2, width: 16, steps: 4, batchSize: 8, draws: 4, edited: 1 }
      : { subjects: 80, layers: 4, width: 64, steps: 1200, batchSize: 96, draws: 160, edited: 10 };
    const runs: Run[] = [];
    let [parameters, facts] = [0, 0];
    for (const seed of quick ? [1] : seeds) {
      const measured = await measure(seed, size);
      runs.push(measured.run);
      ({ parameters, facts } = measured);
    }
    const { subjects, layers, width, edited, draws } = size;
    return { subjects, facts, layers, width, parameters, edited, draws, runs };
  },

  page(result) {
    const text = sections(introduction, method(result), traceSection(result), editSection(result), conclusion(result));
    return { text, plots: plotsOf(result) };
  },
};
