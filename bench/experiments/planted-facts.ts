/** Facts about subjects that do not exist, as sentences of tokens, for the experiment on where facts are stored. */
import type { Draw } from "./draw.js";
import { shuffled } from "./draw.js";

const fillers = 20;
const names = 24;
const relations = 4;
const objects = 12;
/** Number of ways to say a relation; each has two words of its own. */
const phrasings = 2;
/** Largest number of filler words before a sentence. */
export const longestPrefix = 3;

const firstName = fillers;
const lastName = firstName + names;
const firstWord = lastName + names;
const firstObject = firstWord + relations * phrasings * 2;

/** Number of tokens in the vocabulary. */
export const factVocabulary = firstObject + relations * objects;

/** A fact: what the model has to answer after a subject and a relation. */
export interface Fact {
  subject: number;
  relation: number;
  /** Tokens of the first and of the last name. */
  name: readonly [number, number];
  /** Token of the answer. */
  object: number;
}

/** Positions of a sentence's tokens, counted from the start of the first name. */
export const places = ["first name", "last name", "relation, word 1", "relation, word 2"] as const;

/** Returns one fact for each of `subjects` subjects and each relation; objects are drawn at random. */
export function plantFacts(subjects: number, draw: Draw): Fact[] {
  const pairs = Array.from({ length: names * names }, (_, i) => [Math.floor(i / names), i % names] as const);
  return shuffled(pairs, draw)
    .slice(0, subjects)
    .flatMap(([first, last], subject) =>
      Array.from({ length: relations }, (_, relation) => ({
        ...{ subject, relation, name: [firstName + first, lastName + last] as const },
        object: firstObject + relation * objects + draw(objects),
      })),
    );
}

/** Returns another object of the fact's relation. */
export function otherObject({ relation, object }: Fact, draw: Draw): number {
  const first = firstObject + relation * objects;
  return first + ((object - first + 1 + draw(objects - 1)) % objects);
}

/** Returns filler words, the subject and the relation. The answer follows. */
export function sentence({ name, relation }: Fact, phrasing: number, prefix: number, draw: Draw): number[] {
  const word = firstWord + 2 * (relation * phrasings + phrasing);
  return [...Array.from({ length: prefix }, () => draw(fillers)), ...name, word, word + 1];
}

/** A batch of sentences for training: targets are −100 except where the answer follows. */
export interface FactBatch {
  ids: Int32Array;
  targets: Int32Array;
  length: number;
}

/** Returns random facts in random phrasings after random prefixes, with filler words after them up to one length. */
export function drawBatch(facts: readonly Fact[], rows: number, draw: Draw): FactBatch {
  const length = longestPrefix + places.length;
  const ids = new Int32Array(rows * length);
  const targets = new Int32Array(rows * length).fill(-100);
  for (let row = 0; row < rows; row++) {
    const fact = facts[draw(facts.length)]!;
    const words = sentence(fact, draw(phrasings), draw(longestPrefix + 1), draw);
    for (let t = 0; t < length; t++) ids[row * length + t] = words[t] ?? draw(fillers);
    targets[row * length + words.length - 1] = fact.object;
  }
  return { ids, targets, length };
}
