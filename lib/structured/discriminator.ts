// How the options of a union are told apart without comparing each with each, since there may be thousands.
import type { Steps } from "../util/turns.js";
import { isObject } from "./schema-document.js";
import { constantsOf, type Term } from "./schema-term.js";
import { isPauseDue, spend } from "./work.js";

/** Returns true if the options have different constants, or a property that all require has. */
export function* discriminated(options: readonly (readonly Term[])[]): Steps<boolean> {
  if (options.length < 2) return true;
  const names = new Set(options[0]!.flatMap((term) => term.flatMap(namesOf)));
  if (yield* areDifferent(options, constantTexts)) return true;
  for (const name of names) if (yield* areDifferent(options, (term) => textsOf(term, name))) return true;
  return false;
}

/** Returns the names of properties that have constants. */
function namesOf({ schema }: Term[number]): readonly string[] {
  const { properties = {} } = schema as { properties?: Record<string, unknown> };
  const names = Object.keys(properties);
  spend(names.length / 4);
  return names.filter((name) => isObject(properties[name]) && constantsOf(properties[name]) !== null);
}

function requiredOf({ required }: { required?: unknown }): readonly string[] {
  return Array.isArray(required) ? (required as string[]) : [];
}

/** Returns true if no text is that of two options. */
function* areDifferent(
  options: readonly (readonly Term[])[],
  textsOfTerm: (term: Term) => readonly string[] | null,
): Steps<boolean> {
  const owners = new Map<string, number>();
  for (const [i, terms] of options.entries())
    for (const term of terms) {
      if (isPauseDue()) yield;
      const texts = textsOfTerm(term);
      if (!texts) return false;
      for (const text of texts) {
        spend(2 + text.length / 16);
        if ((owners.get(text) ?? i) !== i) return false;
        owners.set(text, i);
      }
    }
  return true;
}

/** Returns the constants that a value can be, if all are strings, numbers and the like: others are written in many ways. */
function constantTexts(term: Term): readonly string[] | null {
  const lists = term.map(({ schema }) => constantsOf(schema)).filter((list) => list !== null);
  const list = lists.find((values) => values.every((value) => typeof value !== "object" || value === null));
  return list?.map((value) => JSON.stringify(value)) ?? null;
}

/** Returns the constants that a property can have, if it is required and can only be an object's. */
function textsOf(term: Term, name: string): readonly string[] | null {
  for (const { schema } of term) spend(1 + requiredOf(schema).length / 64);
  if (!term.some(({ schema }) => requiredOf(schema).includes(name))) return null;
  if (!term.some(({ schema }) => schema.type === "object")) return null;
  for (const { schema } of term) {
    const { properties } = schema as { properties?: Record<string, unknown> };
    const part = properties && Object.hasOwn(properties, name) ? properties[name] : undefined;
    const list = isObject(part) && part.$ref === undefined ? constantsOf(part) : null;
    if (list?.every((value) => typeof value !== "object" || value === null))
      return list.map((value) => JSON.stringify(value));
  }
  return null;
}
