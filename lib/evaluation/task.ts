import path from "node:path";
import { describe, HeedError } from "../util/errors.js";
import { inFile, readTextFile } from "../util/files.js";
import type { PretrainedOptions } from "../hub/pretrained-options.js";
import { optionalPackage } from "../util/optional-package.js";
import { documentOf, readDocuments, type TaskDocument } from "./documents.js";
import type { EvaluationTask } from "./evaluation-task.js";
import { PythonCode } from "./field-reader.js";
import { splitFiles } from "./hub-splits.js";
import { Prompts } from "./prompts.js";
import { checkTaskFields, type TaskFields } from "./task-fields.js";

/** Options of `defineTask`. */
export interface DefineTaskOptions {
  /** Documents of each split, by its name, in place of the files that the task names. @default {} */
  documents?: Readonly<Record<string, readonly TaskDocument[]>>;
  /** Folder to which the paths of files are relative. @default the current folder */
  folder?: string;
  /** Options of a data set that is on the hub. @default {} */
  hub?: Omit<PretrainedOptions, "files">;
}

/**
 * Resolves to the task in a file in YAML, in the form of lm-evaluation-harness. heed supports a declarative part of it:
 * `output_type` multiple_choice, loglikelihood, loglikelihood_rolling and generate_until, templates in Jinja, local data
 * files (`dataset_path: json`, csv or parquet) and data sets of the hub by name, few-shot examples, `metric_list`,
 * `generation_kwargs` and `filter_list`. Paths are relative to the file's folder. The guide on evaluation lists the fields.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("sums.jsonl", '{"question": "1 + 1 =", "choices": ["1", "2"], "answer": 1}\n');
 * await writeFile("sums.yaml", `task: sums
 * dataset_path: json
 * dataset_kwargs: { data_files: { test: sums.jsonl } }
 * test_split: test
 * output_type: multiple_choice
 * doc_to_text: "{{question}}"
 * doc_to_choice: "{{choices}}"
 * doc_to_target: answer
 * `);
 * const task = await readTask("sums.yaml");
 * const { metrics } = await evaluateTask({ model: gpt, tokenizer }, task);
 *
 * @throws ERR_IO if a file cannot be read, or the package yaml is not installed.
 * @throws ERR_FORMAT if a file is malformed, or the task uses something that heed does not support; the message names it.
 */
export async function readTask(
  file: string,
  { hub = {} }: Pick<DefineTaskOptions, "hub"> = {},
): Promise<EvaluationTask> {
  const text = await readTextFile(file);
  return inFile(file, async () => taskOf(await parseYaml(text), { folder: path.dirname(file), hub }));
}

/**
 * Resolves to a task with the fields that a task file has. Its documents may be given instead of being read.
 *
 * @example
 * const task = await defineTask(
 *   { task: "capitals", test_split: "test", doc_to_text: "The capital of {{country}} is", doc_to_target: "{{capital}}" },
 *   { documents: { test: [{ country: "France", capital: "Paris" }] } },
 * );
 *
 * @throws ERR_IO or ERR_FORMAT as `readTask` does.
 */
export async function defineTask(
  fields: Readonly<Record<string, unknown>>,
  options: DefineTaskOptions = {},
): Promise<EvaluationTask> {
  return taskOf(fields, options);
}

async function taskOf(
  given: unknown,
  { documents = {}, folder = ".", hub = {} }: DefineTaskOptions,
): Promise<EvaluationTask> {
  const fields = checkTaskFields(given);
  const { task: name, outputType, testSplit, fewshotSplit, fewshotSamples, files, dataset, numFewshot } = fields;
  const read = new Map<string, Promise<readonly TaskDocument[]>>();
  const split = (splitName: string): Promise<readonly TaskDocument[]> => {
    const known = read.get(splitName) ?? readSplit(splitName, documents, fields, { folder, hub });
    read.set(splitName, known);
    return known;
  };
  if (testSplit === null)
    throw new HeedError("ERR_FORMAT", `task ${name}: expected test_split or validation_split, got neither`);
  const tested = await split(testSplit);
  if (tested.length === 0)
    throw new HeedError("ERR_FORMAT", `task ${name}: expected documents in ${testSplit}, got none`);
  // The examples of a data set on the hub are downloaded only if the task has some.
  const inFiles = (splitName: string): boolean => splitName in documents || splitName in files;
  const hasExamples = fewshotSplit !== null && (inFiles(fewshotSplit) || (dataset !== null && numFewshot > 0));
  const examples = fewshotSamples ?? (hasExamples ? await split(fewshotSplit) : null);
  if (numFewshot > 0 && examples === null)
    throw new HeedError(
      "ERR_FORMAT",
      `task ${name}: expected fewshot_split, training_split or fewshot_config.samples for num_fewshot ${numFewshot}, got none`,
    );
  const task = { name, outputType, documents: tested, examples, fields };
  // Fails now, and not in the evaluation, if a template is malformed.
  new Prompts(task, { numFewshot: 0, seed: 0 });
  return task;
}

async function readSplit(
  name: string,
  documents: Readonly<Record<string, readonly TaskDocument[]>>,
  { files, dataset }: Pick<TaskFields, "files" | "dataset">,
  { folder, hub }: Required<Pick<DefineTaskOptions, "folder" | "hub">>,
): Promise<readonly TaskDocument[]> {
  const given = documents[name];
  if (given) return given.map((one, i) => documentOf(`documents.${name}[${i}]`, one));
  const named = files[name];
  if (dataset) return (await Promise.all((await splitFiles(dataset, name, named, hub)).map(readDocuments))).flat();
  if (!named)
    throw new HeedError(
      "ERR_FORMAT",
      `expected dataset_kwargs.data_files to have the split ${name}, got ${Object.keys(files).join(", ") || "no files"}`,
    );
  const parts = await Promise.all(named.map((file) => readDocuments(path.resolve(folder, file))));
  return parts.flat();
}

/** Parses a task in YAML. Python code becomes a `PythonCode`, so that it is refused by the name of its field. */
async function parseYaml(text: string): Promise<unknown> {
  // Most programs read no task.
  const { parse } = await optionalPackage("yaml", "readTask", () => import("yaml"));
  try {
    const python = { tag: "!function", resolve: (source: string) => new PythonCode(source) };
    return parse(text, { customTags: [python], prettyErrors: true, logLevel: "error" }) as unknown;
  } catch (cause) {
    const [line] = (cause as Error).message.split("\n");
    throw new HeedError("ERR_FORMAT", `expected YAML: ${line ?? describe(text)}`, { cause });
  }
}
