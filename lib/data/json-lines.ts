// The lines of files of JSON. A .json file may have a record in each line. It may also be one JSON document: an array of
// records, an object in which there is one such array, or a single record. A document is turned into lines of JSON without
// parsing its values, so that numbers keep their spelling.
import { HeedError } from "../util/errors.js";
import { bytesOf, skipBytes } from "./bytes.js";
import type { DataFile } from "./inputs.js";
import { recordColumns } from "./records.js";

/** Longest object that is a document, in bytes. It is in memory as a whole; arrays and lines may be longer. */
export const longestObject = 2 ** 28;

const [tab, newline, carriageReturn, space, quote, comma, backslash] = Buffer.from('\t\n\r ",\\') as unknown as Codes;
const [openArray, closeArray, openObject, closeObject] = Buffer.from("[]{}") as unknown as Codes;
type Codes = [number, number, number, number, number, number, number];
const mark = Buffer.from("\ufeff");

const advice =
  "expected an object in each line, one array of records, or an object in which there is one array of records";

/**
 * Yields the bytes of a file of JSON as lines, beginning at a number of bytes of these lines. Those of an array are its
 * elements, one in each line.
 *
 * @throws ERR_IO if the file cannot be read.
 * @throws ERR_FORMAT if the file is a document without records, damaged, or an object of more than 256 MiB.
 */
export async function* jsonLines(
  file: DataFile,
  textColumn: string | null,
  start = 0,
): AsyncGenerator<Buffer, void, undefined> {
  const form = await formOf(file, textColumn);
  if (form === "lines") yield* bytesOf(file, start);
  else yield* skipBytes(form === "array" ? elements(file.path, bytesOf(file)) : elements(file.path, [form]), start);
}

/** Resolves to the form of a file. If it is an object, the form is the text of the array in it, or of itself in one. */
async function formOf(file: DataFile, textColumn: string | null): Promise<"lines" | "array" | Buffer> {
  const pieces: Buffer[] = [];
  let [length, hasLine, isChecked] = [0, false, false];
  for await (const piece of bytesOf(file)) {
    const bytes = length === 0 ? withoutSpace(piece) : piece;
    if (bytes.length === 0) continue;
    pieces.push(bytes);
    length += bytes.length;
    const [first] = pieces[0]!;
    // Some programs write one array to a file of another name. Rows that are arrays are no records, but lines.
    if (first === openArray) return file.format !== "json" && beginsWithLine(bytes, parsed) ? "lines" : "array";
    if (first !== openObject || file.format !== "json") return "lines";
    if (!isChecked && hasLine) isChecked = true;
    hasLine ||= bytes.includes(newline);
    // The second look is for a line that ended with its piece.
    if (hasLine && !isChecked && beginsWithLine(Buffer.concat(pieces))) return "lines";
    if (length > longestObject)
      throw new HeedError(
        "ERR_FORMAT",
        `${file.path}: ${advice}, got an object of more than ${longestObject} bytes; write a record in each line`,
      );
  }
  return length === 0 ? "lines" : objectForm(file.path, Buffer.concat(pieces), textColumn);
}

/** Returns true if the first line can be parsed, as an object by default, and others follow. */
function beginsWithLine(bytes: Buffer, parse: (text: Buffer) => unknown = objectIn): boolean {
  const end = bytes.indexOf(newline);
  return end >= 0 && withoutSpace(bytes.subarray(end)).length > 0 && parse(bytes.subarray(0, end)) !== null;
}

function objectForm(path: string, bytes: Buffer, textColumn: string | null): "lines" | Buffer {
  // A first line of more than a piece of the file.
  if (beginsWithLine(bytes)) return "lines";
  const object = objectIn(bytes);
  if (!object) {
    // If it is the first line that is malformed, it is reported as any other line is.
    const second = withoutSpace(bytes.subarray(bytes.indexOf(newline) + 1));
    const end = second.indexOf(newline);
    if (objectIn(end < 0 ? second : second.subarray(0, end))) return "lines";
    throw new HeedError("ERR_FORMAT", `${path}: ${advice}, got an object that is malformed or has no end`);
  }
  const known = [...(textColumn === null ? [] : [textColumn]), ...recordColumns];
  const itself = Buffer.concat([Buffer.from("["), bytes, Buffer.from("]")]);
  if (textColumn !== null && known.some((name) => Object.hasOwn(object, name))) return itself;
  const arrays = Object.entries(object).flatMap(([name, value]) => (isOfObjects(value) ? [{ name, value }] : []));
  const found = arrays.length > 1 ? arrays.filter(({ value }) => value.length > 0) : arrays;
  if (found.length === 1) return arrayIn(bytes, found[0]!.name);
  // Rows of other tables may be anything.
  if (textColumn === null) return itself;
  const names = found.length > 0 ? found.map(({ name }) => name) : Object.keys(object);
  const got = found.length > 0 ? `arrays of records with the names` : "an object with the fields";
  throw new HeedError(
    "ERR_FORMAT",
    `${path}: ${advice}, got ${got} ${names.slice(0, 10).join(", ") || "(none)"}; write the records to train on to a file of their own, one in each line`,
  );
}

function objectIn(bytes: Buffer): Record<string, unknown> | null {
  const value = parsed(bytes);
  return typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown> | null) : null;
}

/** Returns the value in a text; null if it is malformed. */
function parsed(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return null;
  }
}

function isOfObjects(value: unknown): value is object[] {
  return Array.isArray(value) && value.every((one) => typeof one === "object" && one !== null && !Array.isArray(one));
}

/** Returns the text of the array that is the last value of this name in the text of an object. */
function arrayIn(bytes: Buffer, name: string): Buffer {
  const place = new Place();
  let key = 0;
  let [isName, from] = [false, 0];
  let found = bytes;
  for (const [at, byte] of bytes.entries()) {
    const { depth, inText } = place;
    place.pass(byte);
    if (depth === 1 && byte === quote && !inText) key = at;
    // A value follows its name.
    else if (depth === 1 && byte === quote && !place.inText)
      isName = JSON.parse(bytes.toString("utf8", key, at + 1)) === name;
    else if (depth === 1 && byte === openArray && !inText) from = at;
    else if (place.depth === 1 && depth === 2 && byte === closeArray && isName) found = bytes.subarray(from, at + 1);
  }
  return found;
}

/** Place in a text of JSON. */
class Place {
  /** Number of arrays and objects that are open. */
  depth = 0;
  /** True within a text, its last quotation mark excluded. */
  inText = false;
  #escaped = false;

  /** Passes the next byte. */
  pass(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (this.inText) {
      if (byte === quote) this.inText = false;
      else if (byte === backslash) this.#escaped = true;
    } else if (byte === quote) this.inText = true;
    else if (byte === openArray || byte === openObject) this.depth++;
    else if (byte === closeArray || byte === closeObject) this.depth--;
  }
}

/** Yields the elements of an array, one in each line, as the pieces of its text come. */
async function* elements(
  path: string,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer, void, undefined> {
  const place = new Place();
  let [begun, ended] = [false, false];
  const fail = (got: string): HeedError => new HeedError("ERR_FORMAT", `${path}: ${advice}, got ${got}`);
  for await (const piece of pieces) {
    const bytes = begun ? piece : withoutSpace(piece);
    const lines = Buffer.allocUnsafe(bytes.length);
    let length = 0;
    for (const byte of bytes) {
      const { depth, inText } = place;
      place.pass(byte);
      if (depth === 0) {
        if (isSpace(byte)) continue;
        if (ended) throw fail("more after the end of an array");
        begun = true;
      } else if (place.depth === 0) {
        if (byte !== closeArray) throw fail("an array that ends with }");
        ended = true;
        lines[length++] = newline;
      } else if (depth === 1 && byte === comma && !inText) lines[length++] = newline;
      // A line's end within a text is malformed, and a tab is too.
      else if (byte === newline || byte === carriageReturn) lines[length++] = inText ? tab : space;
      else lines[length++] = byte;
    }
    if (length > 0) yield lines.subarray(0, length);
  }
  if (!ended) throw fail("an array without its end");
}

/** Returns bytes without a byte order mark and white space before them. */
function withoutSpace(bytes: Buffer): Buffer {
  let from = bytes.subarray(0, mark.length).equals(mark) ? mark.length : 0;
  while (from < bytes.length && isSpace(bytes[from]!)) from++;
  return bytes.subarray(from);
}

function isSpace(byte: number): boolean {
  return byte === space || byte === newline || byte === carriageReturn || byte === tab;
}
