// The characters of Unicode's properties, such as \p{L}, as JavaScript's engine knows them.
import type { Steps } from "../util/turns.js";
import { allCharacters, type Characters, charactersOf } from "./characters.js";
import { isPauseDue, spend } from "./work.js";

/** Steps for the characters of a property. */
const propertyWork = 5000;
/** Largest number of properties that are kept. */
const mostProperties = 64;
const properties = new Map<string, Characters>();

/** Number of characters among which a property is looked for at a time. */
const piece = 2 ** 14;
/** All characters, one after the other, in pieces. */
const everyCharacter: string[] = [];

/** Finds the characters of the properties that a regular expression names, so that they are known when it is read. */
export function* findProperties(source: string): Steps<void> {
  const found = new Set<string>();
  for (const [name] of source.matchAll(/\\[pP]\{[^}]*\}/g)) {
    if (found.has(name)) continue;
    found.add(name);
    spend(propertyWork, 0);
    if (isProperty(name)) yield* propertyCharacters(name);
  }
}

/** Returns false for what only looks like a property, after a backslash that has one before it. */
function isProperty(name: string): boolean {
  try {
    return new RegExp(name, "u").source === name;
  } catch {
    return false;
  }
}

/** Returns the characters of a property. */
export function* propertyCharacters(name: string): Steps<Characters> {
  const known = properties.get(name);
  if (known) return known;
  const ranges: [number, number][] = [];
  const runs = new RegExp(`${name}+`, "gu");
  const pieces = Math.ceil(0x110000 / piece);
  for (let i = 0; i < pieces; i++) {
    everyCharacter[i] ??= charactersFrom(i * piece);
    for (const [run] of everyCharacter[i]!.matchAll(runs)) ranges.push([run.codePointAt(0)!, lastPoint(run)]);
    spend(0, propertyWork / pieces);
    if (isPauseDue()) yield;
  }
  const found = charactersOf(ranges);
  if (properties.size >= mostProperties) properties.clear();
  properties.set(name, found);
  return found;
}

/** Returns a piece of all characters, without the surrogates; none if there are only those. */
function charactersFrom(first: number): string {
  const points = Array.from({ length: piece }, (_, i) => first + i).filter((point) =>
    allCharacters.some(([low, high]) => low <= point && point <= high),
  );
  return points.map((point) => String.fromCodePoint(point)).join("");
}

function lastPoint(text: string): number {
  return text.codePointAt(text.length - (text.codePointAt(text.length - 2)! > 0xffff ? 2 : 1))!;
}
