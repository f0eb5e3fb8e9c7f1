// Large JSON in pieces of work. JSON.parse and JSON.stringify block the thread for some tenths of a second for the
// tokenizer of a large model. Here large arrays and objects are read and written a few members at a time.
import type { Steps } from "./turns.js";

/** Characters that are parsed in one piece; that takes a millisecond or two. */
const pieceLength = 2 ** 16;
/** Members that are written in one piece. */
const pieceMembers = 512;
/** Depth of nesting below which values are parsed in one piece. */
const deepest = 8;

/**
 * Does the same as JSON.parse, errors included, except that a large object that is the value of the key `asMap` becomes
 * a Map, whose members can then be read one by one.
 */
export function* parseJson(text: string, asMap?: string): Steps<unknown> {
  const parser = new Parser(text, asMap);
  try {
    const value = yield* parser.whole();
    if (value) return value.parsed;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  // JSON.parse sees the whole text, so its error says best what is wrong.
  return JSON.parse(text) as unknown;
}

/** Parser of valid JSON. For any other text it throws a SyntaxError or returns null. */
class Parser {
  readonly #text: string;
  readonly #asMap: string | undefined;

  constructor(text: string, asMap: string | undefined) {
    [this.#text, this.#asMap] = [text, asMap];
  }

  *whole(): Steps<{ parsed: unknown } | null> {
    if (this.#text.length <= pieceLength) return null;
    const start = this.#skipSpace(0);
    const end = yield* this.#end(start);
    if (this.#skipSpace(end) < this.#text.length) return null;
    return { parsed: yield* this.#value(start, end, 0) };
  }

  *#value(start: number, end: number, depth: number, key?: string): Steps<unknown> {
    const open = this.#text[start];
    if (end - start <= pieceLength || depth > deepest || (open !== "{" && open !== "["))
      return JSON.parse(this.#text.slice(start, end)) as unknown;
    if (this.#text[end - 1] !== (open === "{" ? "}" : "]")) throw new SyntaxError("another bracket");
    const whole = open === "[" ? new List() : key !== undefined && key === this.#asMap ? new Members() : new Fields();
    // The members before this position are parsed.
    let parsed = start + 1;
    for (let at = this.#skipSpace(parsed); at < end - 1;) {
      const valueStart = open === "{" ? this.#skipSpace(this.#expect(":", this.#stringEnd(at))) : at;
      const valueEnd = yield* this.#end(valueStart);
      if (valueEnd - valueStart > pieceLength) {
        // The members before this one end with a comma.
        if (at > parsed) whole.add(this.#text.slice(parsed, this.#lastComma(at)));
        const name = open === "{" ? (JSON.parse(this.#text.slice(at, this.#stringEnd(at))) as string) : "";
        whole.put(name, yield* this.#value(valueStart, valueEnd, depth + 1, name));
        parsed = -1;
      } else if (valueEnd - parsed > pieceLength) {
        whole.add(this.#text.slice(parsed, valueEnd));
        parsed = -1;
        yield;
      }
      at = this.#skipSpace(valueEnd);
      if (at < end - 1) {
        at = this.#skipSpace(this.#expect(",", at));
        if (at >= end - 1) throw new SyntaxError("a comma at the end");
      }
      if (parsed < 0) parsed = at;
    }
    if (this.#skipSpace(parsed) < end - 1) whole.add(this.#text.slice(parsed, end - 1));
    return whole.value;
  }

  /** Returns the end of the value that begins at `start`. */
  *#end(start: number): Steps<number> {
    let depth = 0;
    for (let [at, rest] = [start, start + pieceLength]; at < this.#text.length;) {
      switch (this.#text.charCodeAt(at)) {
        case 0x22: // "
          at = this.#stringEnd(at);
          break;
        case 0x5b: // [
        case 0x7b: // {
          depth++;
          at++;
          break;
        case 0x5d: // ]
        case 0x7d: // }
          depth--;
          at++;
          break;
        default:
          at = depth > 0 ? at + 1 : this.#wordEnd(at);
      }
      if (depth <= 0) return at;
      if (at < rest) continue;
      rest = at + 8 * pieceLength;
      yield;
    }
    throw new SyntaxError("an end of the text within a value");
  }

  #stringEnd(start: number): number {
    for (let at = start; ;) {
      at = this.#text.indexOf('"', at + 1);
      if (at < 0) throw new SyntaxError("a text without an end");
      let before = at;
      while (this.#text[before - 1] === "\\") before--;
      // An even number of backslashes escape each other, so that the quote ends the text.
      if ((at - before) % 2 === 0) return at + 1;
    }
  }

  /** Returns the end of a number, or of true, false or null. */
  #wordEnd(start: number): number {
    let at = start;
    while (at < this.#text.length && !' \n\r\t,]}:"[{'.includes(this.#text[at]!)) at++;
    if (at === start) throw new SyntaxError("no value");
    return at;
  }

  #skipSpace(start: number): number {
    let at = start;
    while (at < this.#text.length && " \n\r\t".includes(this.#text[at]!)) at++;
    return at;
  }

  #expect(sign: string, start: number): number {
    const at = this.#skipSpace(start);
    if (this.#text[at] !== sign) throw new SyntaxError(`no ${sign}`);
    return at + 1;
  }

  #lastComma(before: number): number {
    return this.#text.lastIndexOf(",", before);
  }
}

class List {
  readonly value: unknown[] = [];

  /** Adds the elements in a text of JSON values that commas separate. */
  add(text: string): void {
    for (const element of JSON.parse(`[${text}]`) as unknown[]) this.put("", element);
  }

  put(_: string, element: unknown): void {
    this.value.push(element);
  }
}

abstract class Named {
  abstract put(name: string, value: unknown): void;

  add(text: string): void {
    const members = JSON.parse(`{${text}}`) as Record<string, unknown>;
    for (const name of Object.keys(members)) this.put(name, members[name]);
  }
}

class Fields extends Named {
  readonly value: Record<string, unknown> = {};

  put(name: string, value: unknown): void {
    // A plain assignment would set the object's prototype.
    if (name === "__proto__")
      Object.defineProperty(this.value, name, { value, enumerable: true, configurable: true, writable: true });
    else this.value[name] = value;
  }
}

class Members extends Named {
  readonly value = new Map<string, unknown>();

  put(name: string, value: unknown): void {
    this.value.set(name, value);
  }
}

/**
 * Returns the text of JSON.stringify(value, null, 2) in parts, because joining the parts of a large value takes some
 * tenths of a second. Maps are written as objects.
 */
export function* jsonParts(value: unknown): Steps<string[]> {
  const parts: string[] = [];
  yield* write(value, "", parts);
  return parts;
}

function* write(value: unknown, indent: string, parts: string[]): Steps<void> {
  if (Array.isArray(value) && value.length > pieceMembers) {
    for (let at = 0; at < value.length; at += pieceMembers) {
      const text = JSON.stringify(value.slice(at, at + pieceMembers), null, 2);
      parts.push(at === 0 ? "[\n" : ",\n", indent, text.slice(2, -2).replaceAll("\n", `\n${indent}`));
      yield;
    }
    parts.push("\n", indent, "]");
    return;
  }
  const [open, members] = membersOf(value);
  if (members === null || members.length === 0) {
    parts.push(members ? (open === "[" ? "[]" : "{}") : JSON.stringify(value));
    return;
  }
  const inner = `${indent}  `;
  parts.push(open, "\n");
  for (let at = 0; at < members.length;) {
    const [name, member] = members[at]!;
    const simple = members.slice(at, at + pieceMembers);
    if (at > 0) parts.push(",\n");
    if (members.length > pieceMembers) {
      const text = JSON.stringify(Object.fromEntries(simple), null, 2);
      parts.push(indent, text.slice(2, -2).replaceAll("\n", `\n${indent}`));
      at += simple.length;
    } else {
      parts.push(inner, open === "[" ? "" : `${JSON.stringify(name)}: `);
      yield* write(member, inner, parts);
      at++;
    }
    yield;
  }
  parts.push("\n", indent, open === "[" ? "]" : "}");
}

/**
 * Returns the opening bracket of an array or object and its elements or members. For any other value, and for an object
 * with a toJSON method, it returns null instead of the members.
 */
function membersOf(value: unknown): [open: "[" | "{", members: (readonly [string, unknown])[] | null] {
  if (Array.isArray(value)) return ["[", value.map((element: unknown) => ["", element ?? null] as const)];
  if (value instanceof Map) return ["{", [...(value as ReadonlyMap<string, unknown>)]];
  if (typeof value !== "object" || value === null || "toJSON" in value) return ["{", null];
  return ["{", Object.entries(value).filter(([, member]) => member !== undefined)];
}
