import { checkFunction, checkInteger } from "../util/check.js";
import type { Engine } from "../engine/engine.js";
import { HeedError } from "../util/errors.js";
import { encodePrompt } from "../generate/generate-text.js";
import { concurrently } from "./concurrently.js";
import type { TaskDocument } from "./documents.js";
import { encodeContinuation, encodeWhole } from "./encode.js";
import { concurrencyOf, engineFor, type EvaluatedModel, type EvaluationSettings } from "./engine-options.js";
import { filtered } from "./filters.js";
import { type Measured, measure } from "./measures.js";
import { Prompts } from "./prompts.js";
import type { EvaluationTask } from "./evaluation-task.js";
import { splitAtSpaces } from "./python-strings.js";
import type { OutputType } from "./task-fields.js";
import { windowsOf } from "./windows.js";

/** Options of `evaluateTask`. */
export interface EvaluateTaskOptions extends EvaluationSettings {
  /** Number of examples in each prompt. @default the task's num_fewshot, or 0 */
  numFewshot?: number;
  /** Number of documents to evaluate, from the first one on. @default all */
  limit?: number;
  /** Seed of the choice of examples, and of tokens if the task samples them. @default 1234 */
  seed?: number;
  /** Function that is called with each document and what the model made of it, in any order. */
  onSample?: (sample: TaskSample) => void;
}

/** Document, and what the model made of it. */
export interface TaskSample {
  /** Position of the document in the task. */
  index: number;
  /** The document itself. */
  document: TaskDocument;
  /** Prompt that the model got; empty for loglikelihood_rolling. */
  prompt: string;
  /** Right answers: for multiple_choice those of `choices` that are right, and else texts. */
  targets: string[];
  /** Choices of a document of multiple_choice. */
  choices?: string[];
  /** Log-probability of each choice, or of the target, in nats. */
  logProbabilities?: number[];
  /** Text that the model generated. */
  generated?: string;
}

/** Value of a metric. */
export interface MetricResult {
  /** Name of the metric, as in the task. */
  metric: string;
  /** Name of the filter through which generated texts went; null without one. */
  filter: string | null;
  value: number;
  /** Standard error of the value; null if there are too few documents to know it. */
  stderr: number | null;
}

/** Result of a task. */
export interface TaskResult {
  /** Name of the task. */
  task: string;
  /** Kind of output by which the task measures a model. */
  outputType: OutputType;
  /** Number of documents that were evaluated. */
  documents: number;
  /** Number of examples in each prompt. */
  numFewshot: number;
  /** Values of the task's metrics. */
  metrics: MetricResult[];
}

/**
 * Resolves to the metrics of a model on a task. All documents are given to an engine, which computes them in batches and
 * shares the beginnings of prompts; the results are the same for any size of batch.
 *
 * @example
 * const task = await defineTask(
 *   { task: "colours", test_split: "test", output_type: "multiple_choice",
 *     doc_to_text: "{{thing}} is", doc_to_choice: ["blue", "white"], doc_to_target: "{{colour}}" },
 *   { documents: { test: [{ thing: "The whale", colour: "white" }, { thing: "The sea", colour: "blue" }] } },
 * );
 * const { metrics } = await evaluateTask({ model: gpt, tokenizer }, task);
 * for (const { metric, value, stderr } of metrics) console.log(metric, value, stderr);
 *
 * @throws ERR_ARGUMENT or ERR_RANGE if an option is invalid, or there are too few examples.
 * @throws ERR_FORMAT if a template does not fit a document; the message names the task and the document.
 * @throws ERR_DIVERGED if the model diverges.
 * @throws the signal's reason if the signal aborts.
 */
export async function evaluateTask(
  evaluated: EvaluatedModel,
  task: EvaluationTask,
  options: EvaluateTaskOptions = {},
): Promise<TaskResult> {
  await using engine = engineFor("evaluateTask", evaluated, options);
  const { numFewshot = task.fields.numFewshot, limit = Infinity, seed = 1234 } = options;
  checkInteger("evaluateTask", "numFewshot", numFewshot, 0);
  if (limit !== Infinity) checkInteger("evaluateTask", "limit", limit, 1);
  checkInteger("evaluateTask", "seed", seed, 0);
  if (options.onSample !== undefined) checkFunction("evaluateTask: onSample", options.onSample);
  const documents = task.documents.slice(0, limit);
  // The model and its tokenizer may be getters, as those of a `LanguageModel` are.
  const { model, tokenizer, defaults = {} } = evaluated;
  const prompts = new Prompts(task, { numFewshot, seed });
  const run: Run = { engine, model, tokenizer, defaults, task, prompts, seed, adapter: options.adapter };
  let done = 0;
  const measured = await concurrently(
    documents,
    concurrencyOf(options),
    async (document, index, signal) => {
      const { sample, values } = await naming(task, index, () => evaluateDocument(run, document, index, signal));
      options.onSample?.(sample);
      options.onProgress?.(++done, documents.length);
      return values;
    },
    options.signal,
  );
  const { name, outputType, fields } = task;
  const names = fields.filters?.map((filter) => filter.name) ?? [null];
  const metrics = names.flatMap((filter, i) =>
    fields.metrics.map((metric) => ({
      ...{ metric: metric.metric, filter },
      ...measure(
        metric,
        measured.map((values) => values[i]!),
      ),
    })),
  );
  return { task: name, outputType, documents: documents.length, numFewshot, metrics };
}

/** Parts of an evaluation that each document needs. */
interface Run extends EvaluatedModel {
  readonly engine: Engine;
  readonly task: EvaluationTask;
  readonly prompts: Prompts;
  readonly seed: number;
  /** Name of the adapter; null for none, undefined for the active one. */
  readonly adapter: string | null | undefined;
}

/** Sample of a document, and what is measured of it, for each filter. */
interface Evaluated {
  readonly sample: TaskSample;
  readonly values: readonly Measured[];
}

/** Runs `body`. An error about a document names the task and the document. */
async function naming<T>({ name }: EvaluationTask, index: number, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!(cause instanceof HeedError) || cause.code !== "ERR_FORMAT") throw cause;
    throw new HeedError("ERR_FORMAT", `task ${name}, document ${index}: ${cause.message}`, { cause });
  }
}

function evaluateDocument(run: Run, document: TaskDocument, index: number, signal: AbortSignal): Promise<Evaluated> {
  switch (run.task.outputType) {
    case "multiple_choice":
      return chooses(run, document, index, signal);
    case "loglikelihood":
      return continues(run, document, index, signal);
    case "loglikelihood_rolling":
      return reads(run, document, index, signal);
    case "generate_until":
      return writes(run, document, index, signal);
  }
}

/** Measures which of a document's choices the model finds likeliest. */
async function chooses(run: Run, document: TaskDocument, index: number, signal: AbortSignal): Promise<Evaluated> {
  const { prompts, task } = run;
  const prompt = prompts.promptOf(index);
  const choices = prompts.choicesOf(document);
  const right = prompts.rightChoicesOf(document);
  const scores = await Promise.all(
    choices.map((choice) => likelihood(run, prompt, task.fields.targetDelimiter + choice, signal)),
  );
  const logProbabilities = scores.map(({ total }) => total);
  const targets = right.map((i) => choices[i]!);
  const lengths = choices.map((choice) => Math.max(1, Array.from(choice).length));
  return {
    sample: { index, document, prompt, targets, choices, logProbabilities },
    values: [{ kind: "choice", logProbabilities, lengths, right }],
  };
}

/** Measures how likely the model finds a document's answer. */
async function continues(run: Run, document: TaskDocument, index: number, signal: AbortSignal): Promise<Evaluated> {
  const { prompts } = run;
  const prompt = prompts.promptOf(index);
  const targets = prompts.textsOf(document);
  // As in lm-evaluation-harness, such a target brings its own delimiter.
  const { total, greedy } = await likelihood(run, prompt, targets[0]!, signal);
  return {
    sample: { index, document, prompt, targets, logProbabilities: [total] },
    values: [{ kind: "likelihood", total, greedy }],
  };
}

/** Measures how likely the model finds a document's whole text. */
async function reads(run: Run, document: TaskDocument, index: number, signal: AbortSignal): Promise<Evaluated> {
  const { prompts, engine, model, tokenizer, adapter } = run;
  const targets = prompts.textsOf(document);
  const [text] = targets as [string];
  const { tokens, first } = await encodeWhole(tokenizer, text);
  const { contextLength } = model.config;
  // As in lm-evaluation-harness, the last window reaches back as far as the context allows.
  const scores = await Promise.all(
    windowsOf(tokens.length, first, contextLength, contextLength).map(({ from, first, to }) =>
      engine.score({ tokens: tokens.subarray(from, to), first: first - from, adapter, signal }),
    ),
  );
  const total = scores.reduce((sum, score) => sum + score.total, 0);
  const words = splitAtSpaces(text).length;
  return {
    sample: { index, document, prompt: "", targets, logProbabilities: [total] },
    values: [{ kind: "text", total, words, bytes: Buffer.byteLength(text) }],
  };
}

/** Measures what the model generates for a document. */
async function writes(run: Run, document: TaskDocument, index: number, signal: AbortSignal): Promise<Evaluated> {
  const { prompts, task, engine, model, tokenizer, seed, defaults, adapter } = run;
  const prompt = prompts.promptOf(index);
  const targets = prompts.textsOf(document);
  const { until, temperature, topP, topK, ...rest } = task.fields.generation;
  const { contextLength } = model.config;
  const maxTokens = Math.min(rest.maxTokens, Math.max(1, contextLength - 1));
  // The beginning of a prompt that leaves no room for an answer is left out.
  const tokens = (await encodePrompt(tokenizer, prompt)).slice(-Math.max(1, contextLength - maxTokens));
  const stopTokens = defaults?.stopTokens ?? (tokenizer.endOfText === null ? [] : [tokenizer.endOfText]);
  const { text } = await engine.generate({
    ...{ tokens, stop: until, stopTokens, maxTokens, temperature, topP, topK, seed: seed + index, adapter, signal },
  });
  const filters = task.fields.filters ?? [{ name: "", steps: [] }];
  return {
    sample: { index, document, prompt, targets, generated: text },
    values: filters.map(({ steps }) => ({ kind: "generated", text: filtered(text, steps), targets })),
  };
}

/** Resolves to the log-probability of a continuation. The beginning of a context that is too long is left out. */
async function likelihood(
  { engine, model, tokenizer, adapter }: Pick<Run, "engine" | "model" | "tokenizer" | "adapter">,
  context: string,
  continuation: string,
  signal: AbortSignal,
): Promise<{ total: number; greedy: boolean }> {
  const { tokens, first } = await encodeContinuation(tokenizer, context, continuation);
  const cut = Math.max(0, tokens.length - model.config.contextLength - 1);
  if (first <= cut)
    throw new HeedError(
      "ERR_FORMAT",
      `expected an answer that fits into the context of ${model.config.contextLength} tokens, got one of ${tokens.length - first}`,
    );
  return engine.score({ tokens: tokens.subarray(cut), first: first - cut, adapter, signal });
}
