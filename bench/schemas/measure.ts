// What heed makes of one schema: if it accepts it, if ajv finds its texts valid, and the time that it takes.
import { HeedError } from "../../lib/util/errors.js";
import { Automaton } from "../../lib/structured/automaton.js";
import { Constraint, writeAllowed } from "../../lib/structured/constraint.js";
import type { Expression } from "../../lib/structured/expression.js";
import { formatExpression } from "../../lib/structured/format-expression.js";
import { nextTurn, type Steps, turnIsLong } from "../../lib/util/turns.js";
import { Random } from "../../test/support/random.js";
import type { NamedSchema } from "./collections.js";
import type { Drawer } from "./draw.js";
import { longestTokens, trie, vocabularySize } from "./vocabulary.js";

/** Times of a piece of work, in milliseconds. */
export interface Turns {
  total: number;
  /** Longest time without a turn of the event loop. */
  longest: number;
}

/** Findings about a schema. */
export interface Measured {
  /** Reason for which the schema was refused; null if it was accepted. */
  refusal: string | null;
  compile: Turns;
  /** Times of the tokens at each place of the texts. */
  masks: Turns[];
  texts: { valid: number; unknown: number; invalid: string[] };
}

/** Number of tokens of a text that is made of any tokens that may follow. */
const mostRandom = 100;

const noMore = new Set([vocabularySize]);
const words = new Int32Array(Math.ceil((vocabularySize + 1) / 32));

/** Microseconds of the processor that the process has used. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Milliseconds from which on it matters whether the process had to wait for the processor. */
const short = 0.5;

/**
 * Milliseconds above which the places of a schema's texts are looked at again, without what was found before. The least time
 * counts, since a virtual machine may halt for tens of milliseconds at any place.
 */
const slow = 5;
/** Number of times for which they are looked at again. */
const mostAgain = 2;

/**
 * Measures work in turns, as `inTurns` does it. Where the process had to wait for the processor, its own time counts: other
 * programs are not what is measured.
 */
class Stopwatch {
  readonly #used = processorTime();
  #total = 0;
  #longest = 0;
  #turn = 0;

  get times(): Turns {
    const total = this.#total < short ? this.#total : Math.min(this.#total, (processorTime() - this.#used) / 1000);
    return { total, longest: Math.min(total, this.#longest) };
  }

  run<T>(work: () => T): T {
    const began = performance.now();
    try {
      return work();
    } finally {
      const ms = performance.now() - began;
      this.#turn += ms;
      this.#total += ms;
      this.#longest = Math.max(this.#longest, this.#turn);
    }
  }

  async inTurns<T>(steps: Steps<T>): Promise<T> {
    for (;;) {
      const step = this.run(() => steps.next());
      if (step.done) return step.value;
      if (!turnIsLong()) continue;
      await nextTurn();
      this.#turn = 0;
    }
  }
}

/** States that are kept from schema to schema while they are few, as for the texts of a server. */
let kept: Automaton | null = null;

function automatonFor(): Automaton {
  if (kept) return kept;
  kept = new Automaton(trie);
  kept.onLarge = () => (kept = null);
  return kept;
}

/** Measures a schema with a number of texts that are drawn of it, and as many of any tokens that may follow. */
export async function measured({ name, schema }: NamedSchema, count: number, drawer: Drawer): Promise<Measured> {
  const found: Measured = {
    ...{ refusal: null, compile: { total: 0, longest: 0 }, masks: [] },
    texts: { valid: 0, unknown: 0, invalid: [] },
  };
  let root: Expression;
  await nextTurn();
  const watch = new Stopwatch();
  try {
    root = await watch.inTurns(formatExpression({ type: "json-schema", schema }));
  } catch (error) {
    found.refusal = (error as Error).message;
    return found;
  } finally {
    found.compile = watch.times;
  }
  try {
    await followTexts(root, { name, schema }, count, drawer, found);
  } catch (error) {
    // A place at which there are too many ways to go on ends an answer, so that the schema is not one that heed follows.
    if (!(error instanceof HeedError && error.code === "ERR_ARGUMENT")) throw error;
    found.refusal = error.message;
  }
  return found;
}

/** Follows texts that are drawn of a schema, and as many of any tokens that may follow. */
async function followTexts(
  root: Expression,
  { name, schema }: NamedSchema,
  count: number,
  drawer: Drawer,
  { texts, masks }: Measured,
): Promise<void> {
  const followed: number[][] = [];
  for (const { text, judgement } of await drawer.draw(schema, count)) {
    if (judgement === "invalid") texts.invalid.push(text);
    else texts[judgement]++;
    followed.push(longestTokens(text));
  }
  const followAll = async (automaton: Automaton, to: Turns[]): Promise<void> => {
    const begin = (): Constraint => new Constraint(automaton, root);
    for (const tokens of followed) await follow(begin, to, name, tokens);
    for (let seed = 0; seed < count; seed++) await follow(begin, to, name, new Random(seed));
  };
  await followAll(automatonFor(), masks);
  for (let i = 0; i < mostAgain && masks.some(({ total }) => total > slow); i++) {
    const again: Turns[] = [];
    await followAll(new Automaton(trie), again);
    for (const [at, { total, longest }] of again.entries()) {
      const before = masks[at]!;
      masks[at] = { total: Math.min(before.total, total), longest: Math.min(before.longest, longest) };
    }
  }
}

/** Follows a text, of tokens that are given or drawn, and adds the time of each place. */
async function follow(begin: () => Constraint, masks: Turns[], name: string, tokens: number[] | Random): Promise<void> {
  const given = Array.isArray(tokens) ? tokens : null;
  let constraint: Constraint | null = null;
  let token = -1;
  for (let at = 0; at < (given?.length ?? mostRandom); at++) {
    if (turnIsLong()) await nextTurn();
    const watch = new Stopwatch();
    constraint ??= watch.run(() => begin());
    if (token >= 0) watch.run(() => constraint!.accept(token));
    if (constraint.ended) return;
    await watch.inTurns(constraint.findAllowed());
    watch.run(() => writeAllowed(words, constraint!, noMore));
    masks.push(watch.times);
    const next = given?.[at] ?? drawn(tokens as Random);
    if (next === null) return;
    if (!((words[next >> 5]! >> (next & 31)) & 1))
      throw new Error(`${name}: expected token ${next} to be allowed at place ${at}, got a mask without it`);
    token = next;
  }
}

/** Returns one of the tokens that may follow: the first one from a random place on. It returns null if none may. */
function drawn(random: Random): number | null {
  const first = random.integer(vocabularySize);
  for (let i = 0; i < vocabularySize; i++) {
    const id = (first + i) % vocabularySize;
    if ((words[id >> 5]! >> (id & 31)) & 1) return id;
  }
  return null;
}
