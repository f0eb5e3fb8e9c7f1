// Regular expressions with the meaning that they have in Python's module re: those of JavaScript differ in white space,
// letters and digits, in flags, and in what groups hold. An expression is compiled to instructions, which run over the
// text's code points. Whatever a failed attempt has to undo or can still try lies on a stack, so that long texts need no
// deep recursion.
//
// Expressions come from files of strangers, so an instruction that has failed at a place of the text is not tried there
// again: without references to groups, it would fail again whatever came before (regex-failures.ts). The work is then
// proportional to the text. With references, it is not, and is given up after a number of steps.
import { HeedError } from "../util/errors.js";
import { type CodeTest, type Part, parsePythonRegex, type Place, widthOf } from "./python-regex-parser.js";
import { Failures, type LoopState } from "./regex-failures.js";

/** Instruction of a compiled expression. Numbers are positions of instructions unless their names say otherwise. */
type Instruction =
  | { readonly op: "one"; readonly test: CodeTest }
  | { readonly op: "many"; readonly test: CodeTest; readonly min: number; readonly max: number; readonly lazy: boolean; readonly choice: number } // prettier-ignore
  | { readonly op: "place"; readonly place: Place; readonly isWord: CodeTest }
  | { readonly op: "open"; readonly slot: number }
  | { readonly op: "close"; readonly group: number; readonly slot: number }
  | { readonly op: "split"; readonly other: number; readonly choice: number }
  | { readonly op: "jump"; readonly to: number }
  | { readonly op: "begin"; readonly slot: number }
  | { readonly op: "loop"; readonly slot: number; readonly min: number; readonly max: number; readonly lazy: boolean; readonly exit: number; readonly choice: number } // prettier-ignore
  | { readonly op: "enter"; readonly slot: number; readonly min: number }
  | { readonly op: "look"; readonly behind: number | null; readonly negative: boolean; readonly exit: number }
  | { readonly op: "atomic"; readonly exit: number }
  | { readonly op: "back"; readonly group: number; readonly same: (a: number, b: number) => boolean }
  | { readonly op: "if"; readonly group: number; readonly no: number }
  | { readonly op: "end" };

/** A match: where it begins and ends, and the texts of its groups. A group that took no part is null. */
export interface PythonMatch {
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly groups: readonly (string | null)[];
}

/** Steps after which the work on a text is given up, seconds of work; fewer for an expression that refers to groups. */
export const [usualSteps, referringSteps] = [1e8, 1e7];
/** Largest number of instructions of an expression. */
const mostInstructions = 1e5;

/** Kinds of entries on the stack; each entry has four numbers. */
const [undo, retry, shorter, longer] = [0, 1, 2, 3];

/** Regular expression of Python. */
export class PythonRegex {
  readonly source: string;
  readonly #mostSteps: number;
  /** The loops around each choice, on whose state its failure depends. */
  readonly #choices: (readonly LoopState[])[] = [];
  /** Loops around the part that is being compiled. */
  #around: readonly LoopState[] = [];
  /** Failures inside of lookarounds and atomic groups, by the positions of their instructions. */
  readonly #inside = new Map<number, Failures>();
  /** True if a part refers to what a group holds. */
  #refers = false;
  readonly #program: Instruction[] = [];
  readonly #groups: number;
  /** Number of slots: three for each group, and two for each loop. */
  #slots: number;
  #steps = 0;

  /** @throws ERR_FORMAT if Python refuses the expression; the message says why. */
  constructor(source: string, { mostSteps }: { mostSteps?: number } = {}) {
    this.source = source;
    const { part, groups } = parsePythonRegex(source);
    this.#groups = groups;
    this.#slots = 2 * (groups + 1);
    this.#compile(part);
    this.#emit({ op: "end" });
    this.#mostSteps = mostSteps ?? (this.#refers ? referringSteps : usualSteps);
  }

  /**
   * Returns all matches, as Python's finditer().
   *
   * @throws ERR_FORMAT if the text takes too many steps.
   */
  matches(text: string): PythonMatch[] {
    const codes = Array.from(text, (character) => character.codePointAt(0)!);
    const found: PythonMatch[] = [];
    this.#steps = 0;
    const slots = new Int32Array(this.#slots);
    const failures = this.#refers ? null : Failures.of(this.#choices, codes.length);
    this.#inside.clear();
    const first = this.#first();
    const isFirst = first?.op === "one" ? first.test : null;
    const repeated = first?.op === "many" && first.max === Infinity ? first.test : null;
    const textOf = (from: number, to: number): string => {
      let part = "";
      for (let i = from; i < to; i++) part += String.fromCodePoint(codes[i]!);
      return part;
    };
    // After an empty match another one may begin at the same place, but not an empty one.
    let notEmpty = false;
    for (let at = 0; at <= codes.length;) {
      slots.fill(-1);
      const end: number =
        isFirst && !(at < codes.length && isFirst(codes[at]!))
          ? -1
          : this.#run(codes, 0, at, slots, failures, notEmpty);
      // What has led to a match has not failed, and what was tried for one that is not empty may still match.
      if (end >= 0 || notEmpty) failures?.clear();
      if (end < 0) {
        // A run of what is repeated first has been tried with all of its ends: beginning within it cannot help.
        if (repeated) while (at < codes.length && repeated(codes[at]!)) at++;
        at++;
        notEmpty = false;
        continue;
      }
      const groups = Array.from({ length: this.#groups }, (_, i) =>
        slots[2 * i + 3]! < 0 ? null : textOf(slots[2 * i + 2]!, slots[2 * i + 3]!),
      );
      found.push({ start: at, end, text: textOf(at, end), groups });
      notEmpty = end === at;
      at = end;
    }
    return found;
  }

  /** Returns the text without what matches, as Python's re.sub(expression, "", text). */
  without(text: string): string {
    const characters = Array.from(text);
    let at = 0;
    let rest = "";
    for (const { start, end } of this.matches(text)) {
      rest += characters.slice(at, start).join("");
      at = end;
    }
    return rest + characters.slice(at).join("");
  }

  /** Returns the instruction that reads the first character of every match, if it is always the same. */
  #first(): Instruction | undefined {
    // What refers to a group may depend on where the group begins.
    if (this.#program.some(({ op }) => op === "back" || op === "if")) return undefined;
    return this.#program.find(({ op }) => op !== "open");
  }

  /** Returns the number of a new choice. */
  #newChoice(): number {
    return this.#choices.push(this.#around) - 1;
  }

  #emit(instruction: Instruction): number {
    if (this.#program.length >= mostInstructions)
      throw new HeedError(
        "ERR_FORMAT",
        `expected a shorter regular expression, got one of ${this.source.length} characters`,
      );
    return this.#program.push(instruction) - 1;
  }

  get #here(): number {
    return this.#program.length;
  }

  #compile(part: Part): void {
    switch (part.kind) {
      case "one":
        this.#emit({ op: "one", test: part.test });
        return;
      case "place":
        this.#emit({ op: "place", place: part.place, isWord: part.isWord });
        return;
      case "sequence":
        for (const one of part.parts) this.#compile(one);
        return;
      case "choice":
        this.#choice(part.parts);
        return;
      case "repeat":
        this.#repeat(part);
        return;
      case "group":
        this.#group(part.group, part.part);
        return;
      case "atomic":
        this.#inner((exit) => ({ op: "atomic", exit }), part.part);
        return;
      case "look":
        this.#inner((exit) => ({ op: "look", behind: part.behind, negative: part.negative, exit }), part.part);
        return;
      case "back":
        this.#refers = true;
        this.#emit({ op: "back", group: part.group, same: part.same });
        return;
      case "if": {
        this.#refers = true;
        const at = this.#emit({ op: "end" });
        this.#compile(part.yes);
        const jump = this.#emit({ op: "end" });
        this.#program[at] = { op: "if", group: part.group, no: this.#here };
        this.#compile(part.no);
        this.#program[jump] = { op: "jump", to: this.#here };
      }
    }
  }

  #group(group: number, part: Part): void {
    // The beginning is kept apart until the group ends: a group that is not closed has no text.
    const slot = this.#slots++;
    this.#emit({ op: "open", slot });
    this.#compile(part);
    this.#emit({ op: "close", group, slot });
  }

  #choice(parts: readonly Part[]): void {
    const jumps: number[] = [];
    for (const [i, one] of parts.entries()) {
      if (i === parts.length - 1) {
        this.#compile(one);
        break;
      }
      const split = this.#emit({ op: "end" });
      this.#compile(one);
      jumps.push(this.#emit({ op: "end" }));
      this.#program[split] = { op: "split", other: this.#here, choice: this.#newChoice() };
    }
    for (const jump of jumps) this.#program[jump] = { op: "jump", to: this.#here };
  }

  #repeat({ part, min, max, lazy }: Extract<Part, { kind: "repeat" }>): void {
    if (part.kind === "one") {
      this.#emit({ op: "many", test: part.test, min, max, lazy, choice: this.#newChoice() });
      return;
    }
    const slot = this.#slots;
    this.#slots += 2;
    const before = this.#around;
    // More iterations than `min` make no difference if there is no largest number.
    const state = { slot, most: max === Infinity ? min : max, mayBeEmpty: widthOf(part)[0] === 0 };
    this.#around = state.most === 0 && !state.mayBeEmpty ? before : [...before, state];
    this.#emit({ op: "begin", slot });
    const loop = this.#emit({ op: "end" });
    const choice = this.#newChoice();
    this.#emit({ op: "enter", slot, min });
    this.#compile(part);
    this.#emit({ op: "jump", to: loop });
    this.#program[loop] = { op: "loop", slot, min, max, lazy, exit: this.#here, choice };
    this.#around = before;
  }

  #inner(make: (exit: number) => Instruction, part: Part): void {
    const at = this.#emit({ op: "end" });
    // What is inside ends here, whatever the loops around it do.
    const before = this.#around;
    this.#around = [];
    this.#compile(part);
    this.#around = before;
    this.#emit({ op: "end" });
    this.#program[at] = make(this.#here);
  }

  /**
   * Runs the instructions from one on at a place in the text. Returns the place at which they end, or -1 if they do not
   * match; `slots` then are as they were. `failures` has what has failed in runs from the same instruction.
   */
  #run(
    codes: readonly number[],
    from: number,
    start: number,
    slots: Int32Array,
    failures: Failures | null,
    notEmpty = false,
  ): number {
    const stack: number[] = [];
    const set = (slot: number, value: number): void => {
      stack.push(undo, slot, slots[slot]!, 0);
      slots[slot] = value;
    };
    let [pc, at] = [from, start];
    for (;;) {
      if (++this.#steps > this.#mostSteps) throw this.#tooSlow(codes.length);
      const one = this.#program[pc]!;
      let matches = true;
      switch (one.op) {
        case "one":
          matches = at < codes.length && one.test(codes[at]!);
          at++;
          pc++;
          break;
        case "many": {
          // With a largest number, the whole choice has failed at a place, or none of it.
          if (one.max !== Infinity && failures && !failures.add(one.choice, at, slots)) {
            matches = false;
            break;
          }
          const most = Math.min(codes.length, at + one.max);
          const least = Math.min(most, at + one.min);
          const wanted = one.lazy ? least : most;
          let to = at;
          while (to < least && one.test(codes[to]!)) to++;
          // Where there is no largest number, going on from a place that has failed leads to the same failures.
          const ends = one.max === Infinity && to === at + one.min;
          if (ends && failures && !failures.add(one.choice, to, slots)) {
            this.#steps += to - at;
            matches = false;
            break;
          }
          while (
            to < wanted &&
            one.test(codes[to]!) &&
            !(ends && failures && to + 1 > least && !failures.add(one.choice, to + 1, slots))
          )
            to++;
          this.#steps += to - at;
          matches = to - at >= one.min;
          if (matches && !one.lazy && to > at + one.min) stack.push(shorter, pc + 1, at + one.min, to - 1);
          if (matches && one.lazy && to < most) stack.push(longer, pc, to, most);
          at = to;
          pc++;
          break;
        }
        case "place":
          matches = isPlace(one, codes, at);
          pc++;
          break;
        case "open":
          set(one.slot, at);
          pc++;
          break;
        case "close":
          set(2 * one.group, slots[one.slot]!);
          set(2 * one.group + 1, at);
          pc++;
          break;
        case "split":
          if (failures && !failures.add(one.choice, at, slots)) {
            matches = false;
            break;
          }
          stack.push(retry, one.other, at, 0);
          pc++;
          break;
        case "jump":
          pc = one.to;
          break;
        case "begin":
          set(one.slot, 0);
          set(one.slot + 1, -1);
          pc++;
          break;
        case "loop": {
          if (failures && !failures.add(one.choice, at, slots)) {
            matches = false;
            break;
          }
          const count = slots[one.slot]!;
          // An iteration that is empty is the last one.
          const mayGoOn = count < one.max && at !== slots[one.slot + 1];
          if (count < one.min) pc++;
          else if (!mayGoOn) pc = one.exit;
          else {
            stack.push(retry, one.lazy ? pc + 1 : one.exit, at, 0);
            pc = one.lazy ? one.exit : pc + 1;
          }
          break;
        }
        case "enter":
          // As in Python, the iterations that there must be do not count as empty ones.
          if (slots[one.slot]! >= one.min) set(one.slot + 1, at);
          set(one.slot, slots[one.slot]! + 1);
          pc++;
          break;
        case "look": {
          const begin = at - (one.behind ?? 0);
          const before = slots.slice();
          const found = begin >= 0 && this.#runInside(codes, pc + 1, begin, slots) >= 0;
          matches = found !== one.negative;
          keep(stack, before, slots, found && !one.negative);
          pc = one.exit;
          break;
        }
        case "atomic": {
          const before = slots.slice();
          const end = this.#runInside(codes, pc + 1, at, slots);
          matches = end >= 0;
          keep(stack, before, slots, matches);
          at = end;
          pc = one.exit;
          break;
        }
        case "back": {
          const [first, last] = [slots[2 * one.group]!, slots[2 * one.group + 1]!];
          matches = last >= 0 && at + last - first <= codes.length;
          for (let i = first; matches && i < last; i++) matches = one.same(codes[i]!, codes[at + i - first]!);
          this.#steps += matches ? last - first : 0;
          at += last - first;
          pc++;
          break;
        }
        case "if":
          pc = slots[2 * one.group + 1]! >= 0 ? pc + 1 : one.no;
          break;
        case "end":
          if (!notEmpty || at > start) return at;
          matches = false;
      }
      if (matches) continue;
      // Goes back to the last choice.
      for (;;) {
        if (stack.length === 0) return -1;
        const [c, b, a, kind] = [stack.pop()!, stack.pop()!, stack.pop()!, stack.pop()!];
        if (kind === undo) {
          slots[a] = b;
          continue;
        }
        pc = a;
        at = b;
        if (kind === shorter) {
          at = c;
          if (c > b) stack.push(shorter, a, b, c - 1);
        } else if (kind === longer) {
          const { test, max, choice } = this.#program[a] as Extract<Instruction, { op: "many" }>;
          if (!test(codes[b]!)) continue;
          if (max === Infinity && failures && !failures.add(choice, b + 1, slots)) continue;
          at = b + 1;
          pc = a + 1;
          if (at < c) stack.push(longer, a, at, c);
        }
        break;
      }
    }
  }

  /** Runs the instructions inside of a lookaround or an atomic group. */
  #runInside(codes: readonly number[], from: number, start: number, slots: Int32Array): number {
    const failures = this.#refers
      ? null
      : (this.#inside.get(from) ?? Failures.of(this.#choices, codes.length, { few: true }));
    if (failures) this.#inside.set(from, failures);
    const end = this.#run(codes, from, start, slots, failures);
    if (end >= 0) failures?.clear();
    return end;
  }

  #tooSlow(length: number): HeedError {
    return new HeedError(
      "ERR_FORMAT",
      `expected a regular expression that is quick to match, got ${this.source}, which takes more than ${this.#mostSteps} steps in a text of ${length} characters`,
    );
  }
}

/** Notes what a part has changed, so that it can be undone, or undoes it at once. */
function keep(stack: number[], before: Int32Array, slots: Int32Array, kept: boolean): void {
  if (!kept) {
    slots.set(before);
    return;
  }
  for (const [slot, value] of before.entries()) if (slots[slot] !== value) stack.push(undo, slot, value, 0);
}

/** Returns true if a place of the text is of the kind that an instruction asks for. */
function isPlace(
  { place, isWord }: Extract<Instruction, { op: "place" }>,
  codes: readonly number[],
  at: number,
): boolean {
  const isLast = at === codes.length;
  switch (place) {
    case "start":
      return at === 0;
    case "end":
      return isLast;
    case "lastLine":
      return isLast || (at === codes.length - 1 && codes[at] === 10);
    case "lineStart":
      return at === 0 || codes[at - 1] === 10;
    case "lineEnd":
      return isLast || codes[at] === 10;
    case "border":
    case "inside": {
      // Before Python 3.14, neither matches in an empty text.
      if (codes.length === 0) return false;
      const before = at > 0 && isWord(codes[at - 1]!);
      const after = !isLast && isWord(codes[at]!);
      return (before !== after) === (place === "border");
    }
  }
}
