// The fields of a task file: a declarative part of those of lm-evaluation-harness, under the same names. A field that is
// not one of these is refused by its name, so that no task is evaluated otherwise than it says.
import { HeedError, oneOf } from "../util/errors.js";
import { FieldReader, list, record, refused } from "./field-reader.js";
import { PythonRegex } from "./python-regex.js";

/** Kinds of output by which a task measures a model. */
export const outputTypes = ["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"] as const;

/** Kind of output by which a task measures a model. */
export type OutputType = (typeof outputTypes)[number];

/** Metrics of each kind of output. The first ones are the default. */
export const metricsOf = {
  multiple_choice: ["acc", "acc_norm"],
  loglikelihood: ["perplexity", "acc"],
  loglikelihood_rolling: ["word_perplexity", "byte_perplexity", "bits_per_byte"],
  generate_until: ["exact_match", "f1", "bleu", "chrf"],
} as const satisfies Record<OutputType, readonly string[]>;

/** Aggregation that each metric has in a task file. */
const aggregations: Readonly<Record<string, string>> = {
  ...{ acc: "mean", acc_norm: "mean", exact_match: "mean", f1: "mean", perplexity: "perplexity" },
  ...{ word_perplexity: "weighted_perplexity", byte_perplexity: "weighted_perplexity", bits_per_byte: "bits_per_byte" },
  ...{ bleu: "bleu", chrf: "chrf" },
};

/** Metric of a task, with the options of an exact match. */
export interface TaskMetric {
  readonly metric: string;
  readonly ignoreCase: boolean;
  readonly ignorePunctuation: boolean;
  readonly ignoreNumbers: boolean;
  readonly patternsToIgnore: readonly PythonRegex[];
}

/** Step that changes a generated text before it is compared. */
export type FilterStep =
  | { readonly function: "regex"; readonly pattern: PythonRegex; readonly group: number; readonly fallback: string }
  | { readonly function: "remove_whitespace" | "lowercase" | "uppercase" | "take_first" };

/** Named steps between a generated text and the metrics. */
export interface TaskFilter {
  readonly name: string;
  readonly steps: readonly FilterStep[];
}

/** Options by which texts are generated. */
export interface TaskGeneration {
  readonly until: readonly string[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
}

/** Data set of the hub. */
export interface TaskDataset {
  /** Name on the hub, owner/name. */
  readonly path: string;
  /** Folder in the data set, if it has several parts (configurations); null for all of it. */
  readonly name: string | null;
  readonly revision: string | null;
}

/** Checked fields of a task. */
export interface TaskFields {
  readonly task: string;
  readonly outputType: OutputType;
  /** Files of each split, by its name. */
  readonly files: Readonly<Record<string, readonly string[]>>;
  /** Data set of the hub that has the splits; null if there is none. */
  readonly dataset: TaskDataset | null;
  readonly testSplit: string | null;
  readonly fewshotSplit: string | null;
  /** Documents of the few-shot examples that are written in the task itself. */
  readonly fewshotSamples: readonly Record<string, unknown>[] | null;
  readonly sampler: "default" | "first_n";
  /**
   * True if one more example is drawn, because the document itself may be among them. In lm-evaluation-harness that is so
   * if the names of the splits are the same, two missing names included.
   */
  readonly drawsOneMore: boolean;
  readonly numFewshot: number;
  readonly docToText: string | number;
  readonly docToTarget: string | number | readonly string[];
  readonly docToChoice: string | readonly string[] | null;
  readonly description: string;
  readonly targetDelimiter: string;
  readonly fewshotDelimiter: string;
  readonly generation: TaskGeneration;
  readonly metrics: readonly TaskMetric[];
  readonly filters: readonly TaskFilter[] | null;
}

/** Fields that say nothing about how the task is evaluated. */
const informative = ["task_alias", "tag", "metadata", "should_decontaminate", "doc_to_decontamination_query"];

/**
 * Checks the fields of a task file and fills in defaults.
 *
 * @throws ERR_FORMAT if a field is missing, malformed or not supported; the message names it.
 */
export function checkTaskFields(given: unknown): TaskFields {
  const fields = new FieldReader(record("the task", given), "");
  fields.ignore(informative);
  const outputType = fields.choice("output_type", outputTypes, "generate_until");
  const targetDelimiter = fields.text("target_delimiter", " ");
  const fewshotDelimiter = fields.text("fewshot_delimiter", "\n\n");
  const training = fields.optionalText("training_split");
  const validation = fields.optionalText("validation_split");
  const namedTest = fields.optionalText("test_split");
  const testSplit = namedTest ?? validation;
  const config = fields.inner("fewshot_config");
  const sampler = config.choice("sampler", ["default", "first_n"] as const, "default");
  const samples = config.take("samples");
  const split = config.optionalText("split") ?? fields.optionalText("fewshot_split");
  config.end();
  const result: TaskFields = {
    task: fields.required("task", "string") as string,
    outputType,
    ...dataOf(fields),
    testSplit,
    fewshotSplit: split ?? training ?? validation ?? namedTest,
    // A split that is named for the examples precedes those in the task.
    fewshotSamples:
      samples === undefined || split !== null
        ? null
        : list("fewshot_config.samples", samples).map((one, i) => record(`fewshot_config.samples[${i}]`, one)),
    sampler,
    drawsOneMore: split === namedTest,
    numFewshot: fields.integer("num_fewshot", 0, 0),
    docToText: template(fields, "doc_to_text", outputType === "loglikelihood_rolling" ? "" : undefined) as string,
    docToTarget: template(fields, "doc_to_target"),
    docToChoice: choices(fields, outputType),
    description: fields.text("description", ""),
    targetDelimiter,
    fewshotDelimiter,
    generation: generation(fields.inner("generation_kwargs"), fewshotDelimiter),
    metrics: metrics(fields.take("metric_list"), outputType),
    filters: filters(fields.take("filter_list"), outputType),
  };
  const repeats = fields.integer("repeats", 1, 1);
  if (repeats !== 1) throw refused("repeats", "1", repeats);
  fields.end();
  return result;
}

/** Formats of local files. */
const localFormats = ["json", "csv", "parquet"];

function dataOf(fields: FieldReader): Pick<TaskFields, "files" | "dataset"> {
  const path = fields.optionalText("dataset_path");
  const name = fields.optionalText("dataset_name");
  const kwargs = fields.inner("dataset_kwargs");
  const given = kwargs.take("data_files");
  const revision = kwargs.optionalText("revision");
  kwargs.end();
  const onHub = path !== null && !localFormats.includes(path);
  if (onHub && !/^\w[\w.-]*\/\w[\w.-]*$/.test(path))
    throw refused("dataset_path", oneOf([...localFormats, "the name of a data set of the hub (owner/name)"]), path);
  if (onHub && name !== null && !/^\w[\w.-]*$/.test(name)) throw refused("dataset_name", "a name", name);
  if (!onHub && revision !== null)
    throw refused("dataset_kwargs.revision", "left out, because the data set is not on the hub", revision);
  return {
    files: given === undefined ? {} : dataFiles(given),
    // "default" is how Hugging Face calls the only part of a data set.
    dataset: onHub ? { path, name: name === "default" ? null : name, revision } : null,
  };
}

function dataFiles(given: unknown): Record<string, readonly string[]> {
  const names = (name: string, value: unknown): string[] =>
    (Array.isArray(value) ? value : [value]).map((one: unknown) => {
      if (typeof one !== "string") throw refused(`dataset_kwargs.data_files${name}`, "a file or a list of files", one);
      return one;
    });
  // A single file is the split "train", as in Hugging Face's datasets.
  if (typeof given === "string" || Array.isArray(given)) return { train: names("", given) };
  return Object.fromEntries(
    Object.entries(record("dataset_kwargs.data_files", given)).map(([split, value]) => [
      split,
      names(`.${split}`, value),
    ]),
  );
}

function template(fields: FieldReader, name: string, fallback?: string): string | number | readonly string[] {
  const value = fields.take(name) ?? fallback;
  if (typeof value === "string" || typeof value === "number") return value;
  if (name === "doc_to_target" && Array.isArray(value) && value.every((one) => typeof one === "string")) return value;
  throw refused(name, "a template or the name of a field", value);
}

function choices(fields: FieldReader, outputType: OutputType): string | readonly string[] | null {
  const value = fields.take("doc_to_choice");
  if (value === undefined || value === null) {
    if (outputType === "multiple_choice") throw refused("doc_to_choice", "a list or a template", value);
    return null;
  }
  if (typeof value === "string") return value;
  const items = Array.isArray(value) ? (value as unknown[]) : Object.values(record("doc_to_choice", value));
  // A choice that YAML reads as a number or as a boolean is a text.
  return items.map((item) => {
    if (typeof item === "string" || typeof item === "number") return String(item);
    throw refused("doc_to_choice", "a list of texts", item);
  });
}

function generation(fields: FieldReader, fewshotDelimiter: string): TaskGeneration {
  const until = fields.take("until") ?? [fewshotDelimiter];
  const stops = (Array.isArray(until) ? until : [until]) as unknown[];
  if (!stops.every((stop) => typeof stop === "string" && stop !== ""))
    throw refused("generation_kwargs.until", "a text or a list of texts", until);
  const samples = fields.boolean("do_sample", false);
  const temperature = fields.number("temperature", samples ? 1 : 0, 0);
  const topP = fields.number("top_p", 1, 0, 1);
  const topK = fields.integer("top_k", 0, 0);
  const maxTokens = fields.integer("max_gen_toks", 256, 1);
  fields.end();
  return { until: stops as string[], maxTokens, temperature: samples ? temperature : 0, topP, topK };
}

function metrics(given: unknown, outputType: OutputType): TaskMetric[] {
  const known: readonly string[] = metricsOf[outputType];
  const usual = outputType === "generate_until" ? known.slice(0, 1) : known;
  const items = given === undefined ? usual.map((metric) => ({ metric })) : list("metric_list", given);
  if (items.length === 0) throw refused("metric_list", "at least one metric", given);
  return items.map((item, i) => {
    const at = `metric_list[${i}]`;
    const fields = new FieldReader(record(at, item), `${at}.`);
    const metric = fields.required("metric", "string") as string;
    if (!known.includes(metric))
      throw refused(`${at}.metric`, `${oneOf(known)} (the metrics of ${outputType})`, metric);
    const aggregation = fields.optionalText("aggregation") ?? aggregations[metric];
    if (aggregation !== aggregations[metric]) throw refused(`${at}.aggregation`, aggregations[metric]!, aggregation);
    fields.boolean("higher_is_better", true);
    const options = {
      ignoreCase: fields.boolean("ignore_case", false),
      ignorePunctuation: fields.boolean("ignore_punctuation", false),
      ignoreNumbers: fields.boolean("ignore_numbers", false),
      patternsToIgnore: list(`${at}.regexes_to_ignore`, fields.take("regexes_to_ignore") ?? []).map((pattern) =>
        expression(`${at}.regexes_to_ignore`, pattern),
      ),
    };
    const changed = options.ignoreCase || options.ignorePunctuation || options.ignoreNumbers;
    if (metric !== "exact_match" && (changed || options.patternsToIgnore.length > 0))
      throw refused(`${at}.metric`, "exact_match for these options", metric);
    fields.end();
    return { metric, ...options };
  });
}

function filters(given: unknown, outputType: OutputType): TaskFilter[] | null {
  if (given === undefined || given === null) return null;
  if (outputType !== "generate_until") throw refused("filter_list", "none, except for generate_until", given);
  return list("filter_list", given).map((item, i) => {
    const at = `filter_list[${i}]`;
    const fields = new FieldReader(record(at, item), `${at}.`);
    const name = fields.required("name", "string") as string;
    const steps = list(`${at}.filter`, fields.take("filter")).map((step, j) => filterStep(`${at}.filter[${j}]`, step));
    fields.end();
    return { name, steps };
  });
}

function filterStep(at: string, given: unknown): FilterStep {
  const fields = new FieldReader(record(at, given), `${at}.`);
  const known = ["regex", "remove_whitespace", "lowercase", "uppercase", "take_first"] as const;
  const name = fields.choice("function", known, undefined);
  if (name !== "regex") {
    fields.end();
    return { function: name };
  }
  const step = {
    function: name,
    pattern: expression(`${at}.regex_pattern`, fields.take("regex_pattern") ?? String.raw`#### (\-?[0-9\.\,]+)`),
    group: fields.integer("group_select", 0, -(2 ** 31)),
    fallback: fields.text("fallback", "[invalid]"),
  };
  fields.end();
  return step;
}

/** Returns a regular expression, with the meaning that it has in Python. */
function expression(name: string, source: unknown): PythonRegex {
  if (typeof source !== "string") throw refused(name, "a regular expression", source);
  try {
    return new PythonRegex(source);
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${name}: ${(cause as Error).message}`, { cause });
  }
}
