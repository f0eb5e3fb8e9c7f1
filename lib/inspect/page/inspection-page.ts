// A page about one text in one model: it computes what the page shows and puts it into the file that Vite has built from
// ../web. The page has everything inside of it and asks nobody for anything.
import { readFile } from "node:fs/promises";
import { checkBoolean, checkFunction, checkInteger, checkObject } from "../../util/check.js";
import { noGrad } from "../../core/autograd.js";
import { HeedError } from "../../util/errors.js";
import { CausalDecoder } from "../../models/causal-decoder.js";
import { SequenceToSequence } from "../../models/sequence-to-sequence.js";
import { checkShapeIs, checkTensor } from "../../ops/check.js";
import { scope } from "../../core/scope.js";
import type { IntTensor } from "../../core/tensor.js";
import { hookNames, type InspectedModel, stackOf } from "../hook-names.js";
import { type InputOf, runWithCache } from "../run.js";
import { ablationsOf } from "./ablation.js";
import { attentionOf } from "./attention.js";
import { Blobs } from "./blobs.js";
import { componentOf, partsOf, rounded } from "./components.js";
import type { EffectData, PageData, Sequence } from "./data.js";
import { directAttribution } from "./direct-attribution.js";
import { type Goal, goalOf } from "./goal.js";
import { gradientAttribution } from "./gradient-attribution.js";
import { lensOf } from "./lens.js";
import { neuronsOf } from "./neurons.js";
import { type Stack, stacksOf } from "./stacks.js";

/** Options of `inspectionPage`. */
export interface InspectionPageOptions {
  /** Returns the text of a token, which the page shows. For a model with a source and a target, a token of the target. */
  textOf: (id: number) => string;
  /** Returns the text of a token of the source, for models that have one. @default textOf */
  sourceTextOf?: (id: number) => string;
  /** Title of the page, such as the name of the model. @default the model's class */
  title?: string;
  /**
   * True if the page shows what changes without each head and each feed-forward layer. It takes a pass of the model for
   * each of them.
   *
   * @default true
   */
  ablations?: boolean;
  /** Number of neurons of each feed-forward layer that the page shows, the most active ones. @default 32 */
  neurons?: number;
  /** Function that is called after each pass of the model with the number of passes that are done, and of all. */
  onProgress?: (done: number, passes: number) => void;
}

/**
 * Resolves to a page in HTML that shows what a model computes for one text: its tokens, the attention of every head, the
 * likeliest tokens after each layer, what each head and each layer contributes, the most active neurons, and what changes
 * without a part. The page is one file that needs no network. What it has depends on the model: the logit lens and the
 * exact attribution of logits are for GPTs and Llamas, others get a first-order attribution of what they predict.
 *
 * @param input ids i32 [1, T]; for a T5 or an encoder–decoder, those of a source and of a target
 *
 * @example
 * const ids = tensor(tokenizer.encode("the whale"), [1, 9]);
 * const page = await inspectionPage(gpt, ids, { textOf: (id) => tokenizer.decode([id]) });
 * page.startsWith("<!doctype html>"); // true; write it to a file and open that in a browser
 *
 * @throws ERR_SHAPE if the batch has several texts; ERR_ARGUMENT or ERR_RANGE if an option is invalid; ERR_IO if the page
 *   has not been built.
 */
export async function inspectionPage<M extends InspectedModel>(
  model: M,
  input: InputOf<M>,
  options: InspectionPageOptions,
): Promise<string> {
  const op = "inspectionPage";
  checkObject(op, "options", options);
  const { textOf, sourceTextOf = textOf, ablations = true, neurons = 32, onProgress } = options;
  checkFunction(op, textOf);
  checkFunction(op, sourceTextOf);
  checkBoolean(op, "ablations", ablations);
  checkInteger(op, "neurons", neurons, 0);
  hookNames(model); // checks that it is a model
  const texts = textsOf(op, model, input);
  const template = await readTemplate(op);
  const sequences: Sequence[] = [];
  for (const [i, { title, ids }] of texts.entries()) {
    const show = texts.length > 1 && i === 0 ? sourceTextOf : textOf;
    sequences.push({ title, tokens: Array.from(await ids.data(), show) });
  }
  const blobs = new Blobs();
  const { title = model.constructor.name } = options;
  const collected = await collect(model, input, {
    ...{ blobs, ablations, neurons, textOf, onProgress },
    sequence: texts.length - 1,
    ids: await texts.at(-1)!.ids.data(),
  });
  const data: PageData = { title, facts: factsOf(model, texts), sequences, ...collected };
  return filled(template, data, blobs);
}

/** Ids of a text, with the title that the page gives it. */
interface Text {
  title: string;
  ids: IntTensor;
}

function textsOf<M extends InspectedModel>(op: string, model: M, input: InputOf<M>): Text[] {
  const check = (name: string, ids: IntTensor): IntTensor => {
    checkTensor(op, name, ids);
    checkShapeIs(op, name, ids, [1, -1]);
    return ids;
  };
  if (!(model instanceof SequenceToSequence)) return [{ title: "Tokens", ids: check("ids", input as IntTensor) }];
  checkObject(op, "input", input);
  const { source, target } = input as InputOf<InspectedModel> & { source: IntTensor; target: IntTensor };
  return [
    { title: "Source", ids: check("source", source) },
    { title: "Target", ids: check("target", target) },
  ];
}

interface Collection {
  blobs: Blobs;
  ablations: boolean;
  neurons: number;
  textOf: (id: number) => string;
  onProgress: InspectionPageOptions["onProgress"];
  /** Index of the sequence that the output belongs to, and its ids. */
  sequence: number;
  ids: Int32Array;
}

type Collected = Pick<PageData, "attention" | "lens" | "attribution" | "ablation" | "neurons">;

/** Resolves to everything that the page shows of a model's passes. */
async function collect(
  model: InspectedModel,
  input: InputOf<InspectedModel>,
  { blobs, ablations, neurons, onProgress, ...texts }: Collection,
): Promise<Collected> {
  const stacks = stacksOf(model);
  const wanted = /hook_pattern$|hook_resid_pre$|mlp\.hook_post$/;
  using cache = runWithCache<InspectedModel>(model, input, { names: (name) => name.search(wanted) >= 0 });
  const attention = [];
  for (const stack of stacks) attention.push(await attentionOf(stack, cache, blobs));
  const isDecoder = model instanceof CausalDecoder;
  const lens = isDecoder ? await lensOf(model, cache, texts.textOf) : null;
  const layers = [];
  for (const stack of neurons > 0 ? stacks.filter(({ hasMlp }) => hasMlp) : [])
    layers.push(...(await neuronsOf(stack, cache, neurons, blobs)));
  const goal = await goalOf(model, cache.output, texts);
  const heads = attention.map((one) => one.heads);
  const parts = partsOf(stacks, heads);
  const passes = (ablations ? parts.length : 0) + 2;
  let done = 1;
  onProgress?.(done, passes);
  const attribution = await attributionOf(model, input, goal, { stacks, heads });
  onProgress?.(++done, passes);
  let ablation: EffectData | null = null;
  if (ablations) {
    using scores = noGrad(() => scope(() => goal.scores(cache.output)));
    const clean = await scores.data();
    ablation = await ablationsOf(model, input, goal, { parts, clean, onPass: () => onProgress?.(++done, passes) });
  }
  return { attention, lens, attribution, ablation, neurons: layers };
}

/** Resolves to what each part contributes to what the model predicts; null for a model that predicts nothing. */
async function attributionOf(
  model: InspectedModel,
  input: InputOf<InspectedModel>,
  { targets, columns, sequence, objective, predicted, unit }: Goal,
  { stacks, heads }: { stacks: Stack[]; heads: number[] },
): Promise<EffectData | null> {
  if (model instanceof CausalDecoder && targets) {
    const { contributions, logits } = await directAttribution(model, input as IntTensor, targets);
    return {
      note: "Each number is what the part adds to the logit of the token that is named. Together they are the logit.",
      ...{ unit: "logits", components: contributions.map(({ component }) => component), columns, sequence },
      values: rounded(contributions.flatMap(({ values }) => [...values])),
      totals: [...logits],
    };
  }
  if (!objective) return null;
  const parts = partsOf(stacks, heads);
  const values = await gradientAttribution(model, input, objective, parts);
  return {
    note:
      `Each number estimates what the part adds to the ${unit === "nats" ? "log-probability" : "logit"} of what is ` +
      "predicted: its output times the gradient. It is a first-order estimate, which the ablations may contradict.",
    ...{ unit, components: parts.map(componentOf), columns: [predicted], sequence: null },
    values: rounded(values),
    totals: [],
  };
}

function factsOf(model: InspectedModel, texts: readonly Text[]): PageData["facts"] {
  const { layers, heads, width } = (model instanceof SequenceToSequence ? model : stackOf(model)).config;
  return [
    ["Model", model.constructor.name],
    ["Layers", String(layers)],
    ["Heads", String(heads)],
    ["Width", String(width)],
    ["Parameters", model.parameterCount().toLocaleString("en")],
    ...texts.map(({ title, ids }): [string, string] => [title, String(ids.shape[1])]),
  ];
}

/** Resolves to the page without data, from the folder that contains lib/ and dist/. */
async function readTemplate(op: string): Promise<string> {
  const file = new URL("../../../dist/inspect/web/index.html", import.meta.url);
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new HeedError("ERR_IO", `${op}: the page has not been built; run \`npm run build:web\``, { cause });
  }
}

/** Returns the page with its data. Nothing in the data can end a script: JSON has no "<" left, and base64 has none. */
function filled(template: string, data: PageData, blobs: Blobs): string {
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  const scripts = [
    `<script type="application/json" id="data">${json}</script>`,
    ...[...blobs.contents].map(([name, content]) => `<script type="text/plain" id="blob-${name}">${content}</script>`),
  ];
  const [before, after] = template.split("<!-- data -->");
  return `${before}${scripts.join("\n")}${after}`;
}
