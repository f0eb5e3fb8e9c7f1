// Regular languages of texts that are closed under intersection and complement, by derivatives: what is left of a
// language after a character is again a language (Brzozowski 1964; Owens, Reppy and Turon 2009). Equal nodes are one
// object, so that the derivatives of a language are finitely many states.
import { append } from "../util/append.js";
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { allCharacters, type Characters, charactersOf, complement, intersection } from "./characters.js";
import { type Expression, never } from "./expression.js";
import { isRepetition, type Language, type Step } from "./language.js";
import { placeName } from "./place-name.js";
import { rulesOf } from "./text-rules.js";
import { isPauseDue, spend } from "./work.js";

const noCharacters: Characters = [];

/** Largest number of states that the intersection of several languages may need. */
const mostStates = 20_000;

/** Makes languages. Equal ones of the same maker are the same object. */
export class Languages {
  readonly #known = new Map<string, Language>();
  readonly #sets = new Map<string, number>();
  readonly #derivatives = new Map<Language, Map<number, Language>>();
  readonly #classes = new Map<Language, readonly Characters[]>();
  /** The set of no text. */
  readonly none = this.characters(noCharacters);
  /** The set of the empty text. */
  readonly empty = this.#make("empty", { nullable: true });
  /** The set of all texts. */
  readonly all = this.repeat(this.characters(allCharacters), 0, Infinity);

  #make(kind: Language["kind"], given: Partial<Omit<Language, "id" | "kind">>): Language {
    const { nullable = false, parts = [], of = noCharacters, least = 0, most = 0 } = given;
    const key = `${kind}|${parts.map(({ id }) => id).join()}|${kind === "characters" ? this.#setId(of) : ""}|${least},${most}`;
    spend(1 + parts.length / 4);
    let found = this.#known.get(key);
    if (!found) {
      found = { id: this.#known.size, kind, nullable, parts, of, least, most, steps: null };
      this.#known.set(key, found);
    }
    return found;
  }

  #setId(of: Characters): number {
    const key = of.join();
    let id = this.#sets.get(key);
    if (id === undefined) this.#sets.set(key, (id = this.#sets.size));
    return id;
  }

  /** Returns the texts of one character of a set. */
  characters(of: Characters): Language {
    return this.#make("characters", { of });
  }

  /** Returns a text as a language. */
  text(text: string): Language {
    return this.sequence(Array.from(text, (one) => this.characters([[one.codePointAt(0)!, one.codePointAt(0)!]])));
  }

  /** Returns the languages one after another. */
  sequence(parts: readonly Language[]): Language {
    let result = this.empty;
    for (let i = parts.length - 1; i >= 0; i--) result = this.#pair(parts[i]!, result);
    return result;
  }

  #pair(first: Language, rest: Language): Language {
    if (first === this.none || rest === this.none) return this.none;
    if (first === this.empty) return rest;
    if (rest === this.empty) return first;
    if (first.kind === "sequence") return this.#pair(first.parts[0]!, this.#pair(first.parts[1]!, rest));
    return this.#make("sequence", { parts: [first, rest], nullable: first.nullable && rest.nullable });
  }

  /** Returns the texts of any of the languages. */
  either(options: readonly Language[]): Language {
    const flat = new Set<Language>();
    const single: (readonly [number, number])[] = [];
    const all = options.flatMap((one) => (one.kind === "either" ? one.parts : [one]));
    for (const option of all) {
      if (option === this.all) return this.all;
      if (option.kind === "characters") append(single, option.of);
      else flat.add(option);
    }
    spend(0, all.length / 4 + single.length / 2);
    if (single.length > 0) flat.add(this.characters(charactersOf(single)));
    const parts = [...flat].sort((a, b) => a.id - b.id);
    if (parts.length === 0) return this.none;
    if (parts.length === 1) return parts[0]!;
    return this.#make("either", { parts, nullable: parts.some(({ nullable }) => nullable) });
  }

  /** Returns the texts that all of the languages have. */
  both(given: readonly Language[]): Language {
    const flat = new Set<Language>();
    const all = given.flatMap((one) => (one.kind === "both" ? one.parts : [one]));
    spend(0, all.length / 2);
    for (const one of all) {
      if (one === this.none) return this.none;
      if (one !== this.all) flat.add(one);
    }
    if (flat.has(this.empty)) return [...flat].every(({ nullable }) => nullable) ? this.empty : this.none;
    const parts = this.#joinRepeats([...flat]).sort((a, b) => a.id - b.id);
    if (parts.length === 0) return this.all;
    if (parts.includes(this.none)) return this.none;
    if (parts.length === 1) return parts[0]!;
    return this.#make("both", { parts, nullable: parts.every(({ nullable }) => nullable) });
  }

  /** Returns the same with one repetition of single characters at most, since those can be counted together. */
  #joinRepeats(parts: readonly Language[]): Language[] {
    const asRepeat = (one: Language): { of: Characters; least: number; most: number } | null => {
      if (one.kind === "characters") return { of: one.of, least: 1, most: 1 };
      const [inner] = one.parts;
      return one.kind === "repeat" && inner!.kind === "characters"
        ? { of: inner!.of, least: one.least, most: one.most }
        : null;
    };
    const rest = parts.filter((one) => !asRepeat(one));
    const repeats = parts.map(asRepeat).filter((one) => one !== null);
    if (repeats.length < 2) return [...parts];
    let of: Characters = allCharacters;
    for (const one of repeats) {
      spend(0, (of.length + one.of.length) / 16);
      of = intersection(of, one.of);
    }
    const least = Math.max(...repeats.map((one) => one.least));
    const most = Math.min(...repeats.map((one) => one.most));
    return [...rest, least > most ? this.none : this.repeat(this.characters(of), least, most)];
  }

  /** Returns the texts that a language does not have. */
  not(of: Language): Language {
    if (of.kind === "not") return of.parts[0]!;
    if (of === this.none) return this.all;
    if (of === this.all) return this.none;
    return this.#make("not", { parts: [of], nullable: !of.nullable });
  }

  /** Returns a language a number of times. */
  repeat(of: Language, least: number, most: number): Language {
    if (most === 0 || of === this.empty) return this.empty;
    if (of.kind === "characters" && of.of.length === 0) return least === 0 ? this.empty : of;
    if (least === 1 && most === 1) return of;
    // Where the part may be empty, none of its repetitions is needed.
    if (of.nullable && least > 0) return this.repeat(of, 0, most);
    if (of.kind === "repeat" && of.least <= 1) return this.repeat(of.parts[0]!, of.least * least, of.most * most);
    return this.#make("repeat", { parts: [of], least, most, nullable: least === 0 || of.nullable });
  }

  /** Returns what is left after a character. */
  after(of: Language, point: number): Language {
    let known = this.#derivatives.get(of);
    if (!known) this.#derivatives.set(of, (known = new Map<number, Language>()));
    let found = known.get(point);
    if (found === undefined) known.set(point, (found = this.#after(of, point)));
    return found;
  }

  #after(one: Language, point: number): Language {
    spend(1);
    const [first, second] = one.parts;
    switch (one.kind) {
      case "characters":
        return contains(one.of, point) ? this.empty : this.none;
      case "empty":
        return this.none;
      case "sequence": {
        const begun = this.#pair(this.after(first!, point), second!);
        return first!.nullable ? this.either([begun, this.after(second!, point)]) : begun;
      }
      case "either":
        return this.either(one.parts.map((part) => this.after(part, point)));
      case "both":
        return this.both(one.parts.map((part) => this.after(part, point)));
      case "not":
        return this.not(this.after(first!, point));
      case "repeat": {
        // Where the part may be empty, none of its repetitions is needed.
        const least = first!.nullable ? 0 : Math.max(0, one.least - 1);
        return this.#pair(this.after(first!, point), this.repeat(first!, least, one.most - 1));
      }
    }
  }

  /** Returns sets of characters that no part of the beginning of a language tells apart. */
  *#classesOf(one: Language): Steps<readonly Characters[]> {
    const known = this.#classes.get(one);
    if (known) return known;
    spend(0, 1 / 4);
    if (isPauseDue()) yield;
    const [first, second] = one.parts;
    let found: readonly Characters[];
    if (one.kind === "empty") found = [allCharacters];
    else if (one.kind === "characters") found = [one.of, complement(one.of)].filter(({ length }) => length > 0);
    else if (one.kind === "sequence") {
      found = yield* this.#classesOf(first!);
      if (first!.nullable) found = yield* refined(found, yield* this.#classesOf(second!));
    } else {
      found = yield* this.#classesOf(first!);
      for (const part of one.parts.slice(1)) found = yield* refined(found, yield* this.#classesOf(part));
    }
    this.#classes.set(one, found);
    return found;
  }

  /** Returns the ways in which a text of a language can begin. */
  *steps(of: Language): Steps<readonly Step[]> {
    if (of.steps) return of.steps;
    const byTarget = new Map<Language, (readonly [number, number])[]>();
    for (const characters of yield* this.#classesOf(of)) {
      if (isPauseDue()) yield;
      const after = this.after(of, characters[0]![0]);
      if (after === this.none) continue;
      const ranges = byTarget.get(after);
      if (ranges) append(ranges, characters);
      else byTarget.set(after, [...characters]);
    }
    return (of.steps = Array.from(byTarget, ([after, ranges]) => ({ of: charactersOf(ranges), after })));
  }

  /** Returns true if a language has a text. */
  matches(of: Language, text: string): boolean {
    let state = of;
    for (const one of text) state = this.after(state, one.codePointAt(0)!);
    return state.nullable;
  }

  /**
   * Returns the texts of a language with at most `most` characters as an expression without dead ends; `never` if there
   * are none.
   *
   * @throws ERR_ARGUMENT with `what` if it has too many states.
   */
  *expression(
    root: Language,
    character: (of: Characters) => Steps<Expression>,
    what: string,
    most = Infinity,
  ): Steps<Expression> {
    const states = new Set([root]);
    const callers = new Map<Language, Language[]>();
    for (const state of states) {
      spend(2);
      if (isPauseDue()) yield;
      if (isRepetition(state)) continue;
      for (const { after } of yield* this.steps(state)) {
        states.add(after);
        const known = callers.get(after);
        if (known) known.push(state);
        else callers.set(after, [state]);
      }
      if (states.size > mostStates)
        throw new HeedError(
          "ERR_ARGUMENT",
          `${placeName(what)}: heed does not support patterns and lengths this large together`,
        );
    }
    /** Numbers of characters after which a text of each state can end, at the least. */
    const missing = new Map<Language, number>();
    const byCount: Language[][] = [[]];
    const add = (state: Language, count: number): unknown => (byCount[count] ??= []).push(state);
    for (const state of states)
      if (state.nullable) add(state, 0);
      else if (isRepetition(state)) add(state, state.least);
    for (let count = 0; count < byCount.length; count++)
      for (const state of byCount[count] ?? []) {
        if (missing.has(state)) continue;
        missing.set(state, count);
        for (const caller of callers.get(state) ?? []) add(caller, count + 1);
      }
    if (!(missing.get(root)! <= most)) return never;
    return yield* rulesOf(root, missing, character, most);
  }
}

function contains(of: Characters, point: number): boolean {
  let [low, high] = [0, of.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (of[middle]![1] < point) low = middle + 1;
    else high = middle;
  }
  return low < of.length && of[low]![0] <= point;
}

/** Returns the common refinement of two partitions of all characters. */
function* refined(a: readonly Characters[], b: readonly Characters[]): Steps<readonly Characters[]> {
  if (a === b || b.length === 1) return a;
  if (a.length === 1) return b;
  const parts: Characters[] = [];
  for (const one of a)
    for (const other of b) {
      spend((one.length + other.length) / 16);
      const common = intersection(one, other);
      if (common.length > 0) parts.push(common);
      if (isPauseDue()) yield;
    }
  return parts;
}
