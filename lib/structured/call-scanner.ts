// Reads calls of tools while they are being generated.
import { randomInt } from "node:crypto";
import type { ToolCallDelta } from "../tokenizer/tools.js";

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

/** Reads one call, which is an object with the tool's name and arguments. */
export class CallScanner {
  readonly #index: number;
  readonly #end = new ValueEnd();
  /** The text of the member of the call that is being read, after the comma or brace before it. */
  #member = "";
  /** Name of the member whose value is being read; null if its name is. */
  #key: string | null = null;
  #name: string | null = null;
  /** Arguments that came before the name. */
  #held = "";
  #begun = false;

  constructor(index: number) {
    this.#index = index;
  }

  /** True if the object has ended. */
  get done(): boolean {
    return this.#begun && this.#end.depth === 0;
  }

  /** Takes characters up to the end of the object; returns what they add, and how many they are. */
  push(text: string): { delta: ToolCallDelta | null; length: number } {
    let added = "";
    const named = this.#name !== null;
    let length = 0;
    for (const character of text) {
      length += character.length;
      const before = this.#end.depth;
      const quoted = this.#end.inString;
      this.#end.push(character);
      if (!this.#begun) this.#begun = this.#end.depth > 0;
      else if (before === 1 && !quoted && (character === "," || character === "}")) this.#endMember();
      else if (this.#key === null) this.#readKey(character, before === 1 && !quoted);
      else if (this.#key === "arguments" || this.#key === "parameters") {
        // White space around the value is not a part of it.
        if (this.#member !== "" || character.trim() !== "") this.#member += character;
        if (before > 1 || this.#end.depth > 1) added += character;
      } else this.#member += character;
      if (this.done) break;
    }
    this.#held += added;
    if (this.#name === null) return { delta: null, length };
    const delta: ToolCallDelta = {
      index: this.#index,
      ...(!named && { id: callId(), name: this.#name }),
      arguments: this.#held,
    };
    this.#held = "";
    return { delta: named && delta.arguments === "" ? null : delta, length };
  }

  #readKey(character: string, outside: boolean): void {
    if (!outside || character !== ":") this.#member += character;
    else [this.#key, this.#member] = [textOf(this.#member), ""];
  }

  #endMember(): void {
    if (this.#key === "name") this.#name = textOf(this.#member);
    [this.#key, this.#member] = [null, ""];
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

/** Reads one call that is the tool's name, a separator, and the arguments. */
export class NamedCallScanner {
  readonly #index: number;
  readonly #separator: string;
  readonly #end = new ValueEnd();
  #name = "";
  #named = false;
  #begun = false;

  constructor(index: number, separator: string) {
    this.#index = index;
    this.#separator = separator;
  }

  get done(): boolean {
    return this.#begun && this.#end.depth === 0;
  }

  push(text: string): { delta: ToolCallDelta | null; length: number } {
    const before = this.#named;
    let added = "";
    let length = 0;
    for (const character of text) {
      length += character.length;
      if (!this.#named) {
        this.#name += character;
        this.#named = this.#name.endsWith(this.#separator);
        continue;
      }
      this.#end.push(character);
      this.#begun ||= this.#end.depth > 0;
      if (this.#begun) added += character;
      if (this.done) break;
    }
    const first = this.#named && !before;
    if (!first && added === "") return { delta: null, length };
    const name = this.#name.slice(0, -this.#separator.length).trim();
    return { delta: { index: this.#index, ...(first && { id: callId(), name }), arguments: added }, length };
  }
}
