// Types of the columns of documents, as Hugging Face's datasets finds them: a column has one type in all documents. So
// integers beside floats are floats, and the cells of a CSV file are numbers if all of them are.
import { pauseIfLong } from "../util/turns.js";
import { PythonFloat } from "../tokenizer/jinja/convert.js";

type Document = Readonly<Record<string, unknown>>;

/** Resolves to documents in which integers are floats wherever another document has a float at the same place. */
export async function withFloatColumns(
  documents: readonly Document[],
  known: Iterable<string> = [],
): Promise<Document[]> {
  const floats = new Set(known);
  for (const document of documents) {
    findFloats(document, "", floats);
    await pauseIfLong();
  }
  if (floats.size === 0) return [...documents];
  const converted: Document[] = [];
  for (const document of documents) {
    converted.push(asFloats(document, "", floats) as Document);
    await pauseIfLong();
  }
  return converted;
}

function findFloats(value: unknown, path: string, floats: Set<string>): void {
  if (typeof value === "number" ? !Number.isInteger(value) : value instanceof PythonFloat) floats.add(path);
  else if (typeof value === "object" && value !== null)
    for (const [name, part] of entriesOf(value)) findFloats(part, path + name, floats);
}

function asFloats(value: unknown, path: string, floats: ReadonlySet<string>): unknown {
  if (typeof value === "number") return Number.isInteger(value) && floats.has(path) ? new PythonFloat(value) : value;
  if (typeof value !== "object" || value === null || value instanceof PythonFloat) return value;
  if (Array.isArray(value)) return value.map((part) => asFloats(part, `${path}[]`, floats));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(
    entriesOf(value).map(([name, part]) => [name.slice(1), asFloats(part, path + name, floats)]),
  );
}

function entriesOf(value: object): [step: string, part: unknown][] {
  if (Array.isArray(value)) return value.map((part: unknown) => ["[]", part]);
  return Object.entries(value).map(([name, part]: [string, unknown]) => [`.${name}`, part]);
}

/** Texts of cells without a value in a column of numbers or of booleans, as pandas has them. */
const missing = new Set([
  ...["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"],
  ...["<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"],
]);
const integer = /^\s*[+-]?\d+\s*$/;
const float = /^\s*[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+([eE][+-]?\d+)?|inf|infinity)\s*$/i;
const boolean = /^(true|false|True|False|TRUE|FALSE)$/;

/**
 * Returns the rows of a CSV file with numbers and booleans in the columns that have nothing else. Cells without a value in
 * such columns are null, and integers beside them are floats. Columns of texts stay as they are.
 */
export function withCsvTypes(rows: readonly Document[]): Document[] {
  const columns = new Set(rows.flatMap((row) => Object.keys(row)));
  const convert = new Map([...columns].map((name) => [name, conversionOf(rows.map((row) => row[name]))]));
  return rows.map((row) =>
    Object.fromEntries(
      Object.entries(row).map(([name, cell]) => {
        const conversion = convert.get(name);
        if (!conversion || typeof cell !== "string") return [name, cell];
        return [name, missing.has(cell) ? null : conversion(cell)];
      }),
    ),
  );
}

/** Returns how the cells of a column become values; null if they are texts. */
function conversionOf(cells: readonly unknown[]): ((cell: string) => unknown) | null {
  const texts = cells.filter((cell): cell is string => typeof cell === "string");
  const given = texts.filter((text) => !missing.has(text));
  if (given.length === 0 || given.length < cells.length - (texts.length - given.length)) return null;
  const all = (pattern: RegExp): boolean => given.every((text) => pattern.test(text));
  if (all(boolean)) return (cell) => cell.toLowerCase() === "true";
  if (all(integer) && given.every((text) => Number.isSafeInteger(Number(text))))
    return given.length < texts.length ? floatOf : Number;
  return all(float) && !all(integer) ? floatOf : null;
}

function floatOf(cell: string): number | PythonFloat {
  const value = Number(cell.trim().replace(/inf(inity)?/i, "Infinity"));
  return Number.isInteger(value) ? new PythonFloat(value) : value;
}
