// Reads calls of tools that are JSON while they are being generated.
import { randomInt } from "node:crypto";
import type { ToolCallDelta } from "../tokenizer/tools.js";
import { longestHead, type Scanned, type Scanner } from "./call-format.js";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** Returns a name for a call: nine letters and digits, which is what Mistral's templates demand. */
export function callId(): string {
  return Array.from({ length: 9 }, () => alphabet[randomInt(alphabet.length)]).join("");
}

/** Finds the end of a JSON value that is an object or an array. */
export class ValueEnd {
  depth = 0;
  inString = false;
  #escaped = false;

  /** Takes the next character. */
  push(character: string): void {
    if (this.inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === "\\") this.#escaped = true;
      else if (character === '"') this.inString = false;
    } else if (character === '"') this.inString = true;
    else if ("{[".includes(character)) this.depth++;
    else if ("}]".includes(character)) this.depth--;
  }
}

const nameKeys = ["name", "tool_name", "function"];
const argumentKeys = ["arguments", "parameters"];
/** Other members of calls, which say nothing. */
const otherKeys = ["id", "type", "tool_call_id"];
const knownKeys = [...nameKeys, ...argumentKeys, ...otherKeys];

/** Reads one call, which is an object with the tool's name and arguments. */
export class CallScanner implements Scanner {
  readonly #index: number;
  /** Names of the tools; null if an object is a call whatever its name. */
  readonly #tools: ReadonlySet<string> | null;
  readonly #end = new ValueEnd();
  /** The text of the member of the call that is being read, after the comma or brace before it. */
  #member = "";
  /** Name of the member whose value is being read; null if its name is. */
  #key: string | null = null;
  #name: string | null = null;
  /** Arguments that have not been given. */
  #held = "";
  #hasArguments = false;
  #begun = false;
  #rejected = false;

  /** If the names of the tools are given, an object that is no call of one of them is rejected. */
  constructor(index: number, tools: ReadonlySet<string> | null = null) {
    this.#index = index;
    this.#tools = tools;
  }

  /** True if the object has ended. */
  get done(): boolean {
    return this.#begun && this.#end.depth === 0;
  }

  /** Takes characters up to the end of the object; returns what they add, and how many they are. */
  push(text: string): Scanned {
    const named = this.#name !== null;
    let length = 0;
    for (const character of text) {
      length += character.length;
      this.#take(character);
      if (this.done || this.#rejected) break;
    }
    if (this.done) this.#finish();
    if (this.#rejected) return { delta: null, length, rejected: true };
    if (this.#name === null) return { delta: null, length };
    const first = named ? {} : { id: callId(), name: this.#name };
    const delta: ToolCallDelta = { index: this.#index, ...first, arguments: this.#held };
    this.#held = "";
    return { delta: named && delta.arguments === "" ? null : delta, length };
  }

  #take(character: string): void {
    const before = this.#end.depth;
    const quoted = this.#end.inString;
    this.#end.push(character);
    const outside = before === 1 && !quoted;
    if (!this.#begun) this.#begun = this.#end.depth > 0;
    else if (outside && (character === "," || character === "}")) this.#endMember();
    else if (this.#key === null) this.#readKey(character, outside);
    else {
      // White space around the value is not a part of it.
      if (this.#member !== "" || character.trim() !== "") this.#member += character;
      if (!argumentKeys.includes(this.#key) || (before <= 1 && this.#end.depth <= 1)) return;
      this.#held += character;
      this.#hasArguments = true;
    }
  }

  #readKey(character: string, outside: boolean): void {
    if (!outside || character !== ":") {
      this.#member += character;
      return;
    }
    [this.#key, this.#member] = [textOf(this.#member), ""];
    if (this.#tools && !knownKeys.includes(this.#key)) this.#rejected = true;
  }

  #endMember(): void {
    const [key, member] = [this.#key, this.#member.trim()];
    [this.#key, this.#member] = [null, ""];
    if (key === null) return;
    if (nameKeys.includes(key) && this.#name === null && member.startsWith('"')) {
      this.#name = textOf(member);
      if (this.#tools && !this.#tools.has(this.#name)) this.#rejected = true;
    } else if (argumentKeys.includes(key) && !this.#hasArguments) {
      // Some models write the arguments as a text that is JSON.
      const text = textOf(member).trim();
      this.#held = text === "" || text === "null" ? "{}" : text;
      this.#hasArguments = true;
    }
  }

  /** Ends the object: a call without arguments has none, and what has no name is no call. */
  #finish(): void {
    if (this.#name === null) this.#rejected = true;
    else if (!this.#hasArguments) [this.#held, this.#hasArguments] = ["{}", true];
  }
}

/** Returns the text that a JSON string stands for, or the JSON itself if it is none. */
function textOf(json: string): string {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "string" ? value : json.trim();
  } catch {
    return json.trim();
  }
}

/** Reads one call that is a text with the tool's name, and then the arguments. */
export class NamedCallScanner implements Scanner {
  readonly #index: number;
  readonly #nameIn: (head: string) => string;
  readonly #end = new ValueEnd();
  #head = "";
  #begun = false;

  /** `nameIn` returns the name in the text before the arguments; the empty text if there is none. */
  constructor(index: number, nameIn: (head: string) => string) {
    this.#index = index;
    this.#nameIn = nameIn;
  }

  get done(): boolean {
    return this.#begun && this.#end.depth === 0;
  }

  push(text: string): Scanned {
    let first: { id: string; name: string } | null = null;
    let added = "";
    let length = 0;
    for (const character of text) {
      length += character.length;
      if (!this.#begun && character !== "{") {
        this.#head += character;
        if (this.#head.length > longestHead) return { delta: null, length, rejected: true };
        continue;
      }
      if (!this.#begun) {
        const name = this.#nameIn(this.#head).trim();
        if (name === "") return { delta: null, length, rejected: true };
        [this.#begun, first] = [true, { id: callId(), name }];
      }
      this.#end.push(character);
      added += character;
      if (this.done) break;
    }
    return { delta: added === "" ? null : { index: this.#index, ...first, arguments: added }, length };
  }
}
