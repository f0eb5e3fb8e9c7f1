// How fast an answer came, as the page sees it: with the way over the network.
import type { Part } from "./api.js";

/** Figures of an answer that is coming. */
export class Statistics {
  readonly #begun = performance.now();
  #first: number | null = null;
  #last = 0;
  /** Tokens of the first part, which say nothing about the speed of those that follow. */
  #firstTokens = 0;
  #tokens = 0;
  #promptTokens: number | null = null;
  #end = "";

  add({ tokens, finishReason, usage }: Part): void {
    if (tokens > 0) {
      this.#last = performance.now();
      this.#first ??= this.#last;
      this.#firstTokens ||= tokens;
      this.#tokens += tokens;
    }
    if (finishReason === "length") this.#end = "ended at the largest length";
    if (!usage) return;
    this.#tokens = usage.completion_tokens;
    this.#promptTokens = usage.prompt_tokens;
  }

  /** Notes that the reader has stopped the answer. */
  stopped(): void {
    this.#end = "stopped";
  }

  toString(): string {
    const known = this.#first !== null || this.#promptTokens !== null;
    const parts = [
      known ? count(this.#tokens, "token") : "",
      ...this.#speed(),
      this.#promptTokens === null ? "" : `prompt of ${count(this.#promptTokens, "token")}`,
      this.#end,
    ];
    return parts.filter((part) => part !== "").join(" · ");
  }

  /** Returns nothing for an answer without tokens. */
  #speed(): string[] {
    if (this.#first === null) return [];
    const seconds = (this.#last - this.#first) / 1000;
    const later = this.#tokens - this.#firstTokens;
    return [
      seconds > 0 && later > 0 ? `${rounded(later / seconds)} tokens/s` : "",
      `first token after ${rounded((this.#first - this.#begun) / 1000)} s`,
    ];
  }
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

function rounded(value: number): string {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}
