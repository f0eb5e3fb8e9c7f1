// Documents of a task, from files of JSON, CSV and Parquet.
import { documentRows } from "../data/document-rows.js";
import { floatColumns } from "../data/tables.js";
import { formatOf } from "../data/inputs.js";
import { describe, HeedError } from "../util/errors.js";
import { readTextFile } from "../util/files.js";
import { pauseIfLong } from "../util/turns.js";
import { withCsvTypes, withFloatColumns } from "./column-types.js";
import { parsePythonJson } from "./python-json.js";

/**
 * Document of a task: the fields that its templates use. A whole number that is a float in the file, such as 3.0, is an
 * object of the class Number, so that prompts write it as Python does.
 */
export type TaskDocument = Readonly<Record<string, unknown>>;

/**
 * Resolves to the documents of a file: an object on each line, the rows of CSV or Parquet, or the objects of a list in a
 * file of JSON, which may be the only such list in an object. Empty lines are skipped. Files may be compressed (.gz, .zst).
 * A file of another name has an object on each line. The columns have the types that Hugging Face's datasets gives them:
 * whole floats are a `PythonFloat`.
 *
 * @throws ERR_IO if the file cannot be read; ERR_FORMAT if it is malformed. The message names the file and the line.
 */
export async function readDocuments(file: string): Promise<TaskDocument[]> {
  const { format = "text" } = formatOf(file) ?? {};
  const documents: TaskDocument[] = [];
  if (format !== "text") {
    for await (const { line, value } of documentRows(file, parsePythonJson))
      documents.push(documentOf(`${file}:${line}`, value));
    if (format === "csv" || format === "tsv") return withCsvTypes(documents);
    return withFloatColumns(documents, format === "parquet" ? await floatColumns(file) : []);
  }
  for (const [i, line] of (await readTextFile(file)).split("\n").entries()) {
    const at = `${file}:${i + 1}`;
    if (line.trim() !== "") documents.push(documentOf(at, parsed(at, line)));
    await pauseIfLong();
  }
  return withFloatColumns(documents);
}

function parsed(at: string, text: string): unknown {
  try {
    return parsePythonJson(text);
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${at}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Returns a value that must be a document.
 *
 * @throws ERR_FORMAT if it is not; the message begins with `at`.
 */
export function documentOf(at: string, value: unknown): TaskDocument {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as TaskDocument;
  throw new HeedError("ERR_FORMAT", `${at}: expected an object, got ${describe(value)}`);
}
