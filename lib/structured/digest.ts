// A name for a value such as a format, by which an equal one is found again: schemas may have megabytes, so that they are
// not kept as keys themselves.
import { createHash } from "node:crypto";
import type { Steps } from "../util/turns.js";
import { HeedError } from "../util/errors.js";
import { isPauseDue, spend } from "./work.js";

/** Characters that are hashed at a time. */
const piece = 2 ** 16;
/** Most levels of a value; one that contains itself has more. */
const mostLevels = 10_000;

/** Values of an array, or names and values of an object, of which some have been hashed. */
interface Open {
  readonly values: readonly unknown[];
  next: number;
}

/**
 * Returns the SHA-256 hash of a value of JSON and the like. Members that are undefined count as missing, as in JSON.
 *
 * @throws ERR_ARGUMENT if the value has too many levels.
 */
export function* digestOf(value: unknown): Steps<string> {
  const hash = createHash("sha256");
  // Code units, since half a character has no other bytes.
  const add = (text: string): unknown => hash.update(text, "utf16le");
  let held = "";
  // A list instead of recursion, since a value may have many levels.
  const path: Open[] = [{ values: [value], next: 0 }];
  for (let last = path.at(-1); last; last = path.at(-1)) {
    if (held.length >= piece) {
      add(held);
      held = "";
    }
    if (last.next === last.values.length) {
      held += "]";
      path.pop();
      continue;
    }
    spend(1 / 16);
    if (isPauseDue()) yield;
    const one = last.values[last.next++];
    if (typeof one === "object" && one !== null) {
      if (path.length > mostLevels)
        throw new HeedError("ERR_ARGUMENT", "format: expected parts that are nested less deeply, got too many levels");
      const values = Array.isArray(one) ? (one as unknown[]) : membersOf(one);
      held += `${Array.isArray(one) ? "[" : "{"}${values.length} `;
      path.push({ values, next: 0 });
    } else if (typeof one === "string") {
      // The length says where a text ends.
      held += `"${one.length} `;
      for (let at = 0; at < one.length; at += piece) {
        add(held);
        held = one.slice(at, at + piece);
        spend(held.length / 1024);
        if (isPauseDue()) yield;
      }
    } else held += `${typeof one} ${String(one)} `;
  }
  add(held);
  return hash.digest("base64");
}

function membersOf(value: object): unknown[] {
  return Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .flat();
}
