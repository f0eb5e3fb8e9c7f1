// The text of a custom tool's call, which the model writes as an argument.
import { inputName } from "../structured/tool-input.js";

/** Returns the text in the arguments of a call; the arguments themselves if they are of another form. */
export function inputText(json: string): string {
  try {
    const value: unknown = Object(JSON.parse(json));
    const text = (value as Record<string, unknown>)[inputName];
    if (typeof text === "string") return text;
  } catch {
    // The call was cut.
  }
  const reader = new InputReader();
  return reader.push(json) + reader.end();
}

/** Reads the text in arguments that come in pieces. */
export class InputReader {
  #held = "";
  #state: "start" | "text" | "end" | "other" = "start";

  /** Returns what a piece adds to the text. */
  push(piece: string): string {
    this.#held += piece;
    if (this.#state === "start") this.#start();
    if (this.#state === "end") return "";
    if (this.#state === "text") return this.#text();
    if (this.#state !== "other") return "";
    const all = this.#held;
    this.#held = "";
    return all;
  }

  /** Returns what is left when the arguments end before it is decided what they are. */
  end(): string {
    return this.#state === "start" && !beginning.test(this.#held) ? this.#held : "";
  }

  #start(): void {
    const [begun] = /^\s*\{\s*"input"\s*:\s*"/.exec(this.#held) ?? [];
    if (begun !== undefined) [this.#state, this.#held] = ["text", this.#held.slice(begun.length)];
    else if (!beginning.test(this.#held)) this.#state = "other";
  }

  #text(): string {
    let text = "";
    for (;;) {
      const [part] = /^(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])+/.exec(this.#held) ?? [""];
      text += part;
      this.#held = this.#held.slice(part.length);
      if (part !== "") continue;
      if (this.#held.startsWith('"')) this.#state = "end";
      // An escape may be half there, and so may a pair of surrogates.
      const [half] = /\\u[dD][89abAB][0-9a-fA-F]{2}$/.exec(text) ?? [""];
      if (this.#state === "text" && half !== "") {
        this.#held = half + this.#held;
        text = text.slice(0, -half.length);
      }
      return unescaped(text);
    }
  }
}

/** Beginnings of arguments that have a text. */
const beginning = /^\s*(?:\{\s*(?:"(?:i(?:n(?:p(?:u(?:t(?:"\s*(?::\s*)?)?)?)?)?)?)?)?)?$/;

function unescaped(text: string): string {
  try {
    return JSON.parse(`"${text.replaceAll("\n", "\\n").replaceAll("\r", "\\r").replaceAll("\t", "\\t")}"`) as string;
  } catch {
    return text;
  }
}
