// Counts what was found of the schemas of a collection.
import { rounded } from "../statistics.js";
import type { Measured, Turns } from "./measure.js";
import type { SchemasRow, Times } from "./report.js";

/** Names of schemas that are kept with the largest times. */
const mostNotable = 5;

/** Keywords and other parts of a schema that a refusal can name, in its place or in its words. */
const keywords =
  /^(?:type|enum|const|properties|required|additionalProperties|patternProperties|propertyNames|(?:min|max)[A-Z]\w+|dependen\w+|(?:prefix|additional|unique)?[iI]tems|contains|pattern|format|(?:exclusiveM|m)(?:in|ax)imum|multipleOf|anyOf|allOf|oneOf|not|if|then|else|\$ref|\$dynamicRef|\$recursiveRef|unevaluated\w+|extends|disallow|divisibleBy)$/;

/** Returns the keyword that a refusal names: the last one of its place. */
export function keywordOf(refusal: string): string {
  const [, place = ""] = /^schema at (\S+?):? /.exec(refusal) ?? [];
  const found = place
    .split("/")
    .reverse()
    .find((part) => keywords.test(part));
  if (refusal.includes("expected a text that can end")) return "no value matches";
  return found ?? (place === "" ? "size" : "the form of the schema");
}

interface Named {
  readonly name: string;
  readonly ms: number;
}

/** Times of all pieces of work of one kind. */
class TimesOf {
  readonly #all: number[] = [];
  #longestTurn = 0;
  #slowest: Named[] = [];

  add(name: string, { total, longest }: Turns): void {
    this.#all.push(total);
    this.#longestTurn = Math.max(this.#longestTurn, longest);
    if (this.#slowest.length === mostNotable && total <= this.#slowest.at(-1)!.ms) return;
    const others = this.#slowest.filter((one) => one.name !== name || one.ms > total);
    if (others.some((one) => one.name === name)) return;
    this.#slowest = [...others, { name, ms: total }].sort((a, b) => b.ms - a.ms).slice(0, mostNotable);
  }

  get slowest(): string[] {
    return this.#slowest.map(({ name, ms }) => `${name} ${rounded(ms)} ms`);
  }

  get times(): Times {
    const sorted = Float64Array.from(this.#all).sort();
    const at = (share: number): number => rounded(sorted[Math.ceil(share * sorted.length) - 1] ?? 0);
    return {
      ...{ count: sorted.length, median: at(0.5), p99: at(0.99), max: at(1) },
      longestTurn: rounded(this.#longestTurn),
    };
  }
}

/** Counts of a collection. */
export class Tally {
  readonly #collection: string;
  #count = 0;
  #accepted = 0;
  readonly #refused = new Map<string, number>();
  readonly #texts = { drawn: 0, refused: 0, unknown: 0 };
  readonly #compile = new TimesOf();
  readonly #masks = new TimesOf();
  readonly #invalid: string[] = [];

  constructor(collection: string) {
    this.#collection = collection;
  }

  /** Adds what was found of a schema. */
  add(name: string, { refusal, compile, masks, texts }: Measured): void {
    this.#count++;
    this.#compile.add(name, compile);
    if (refusal !== null) {
      const keyword = keywordOf(refusal);
      this.#refused.set(keyword, (this.#refused.get(keyword) ?? 0) + 1);
      return;
    }
    this.#accepted++;
    for (const one of masks) this.#masks.add(name, one);
    const { valid, invalid, unknown } = texts;
    this.#texts.drawn += valid + invalid.length + unknown;
    this.#texts.refused += invalid.length;
    this.#texts.unknown += unknown;
    if (invalid.length > 0) this.#invalid.push(name);
  }

  /** The counts so far. */
  get row(): SchemasRow {
    return {
      ...{ collection: this.#collection, count: this.#count, accepted: this.#accepted },
      refused: Object.fromEntries([...this.#refused].sort(([, m], [, n]) => n - m)),
      ...{ texts: { ...this.#texts }, compile: this.#compile.times, masks: this.#masks.times },
      notable: { compile: this.#compile.slowest, masks: this.#masks.slowest, invalid: this.#invalid },
    };
  }
}
