// The members of an object, in their order. The size of what they become grows with their number, and not with the number
// of ways in which some of them can be left out.
import type { Steps } from "../util/turns.js";
import {
  choice,
  choiceOf,
  empty,
  type Expression,
  isText,
  literal,
  never,
  repeat,
  rule,
  type Rule,
  sequence,
  sequenceOf,
} from "./expression.js";
import { colon, keyCharacter, list, separator } from "./json-expressions.js";
import { isPauseDue, spend } from "./work.js";

/** A property that an object can have. */
export interface Member {
  readonly name: string;
  /** True if the object must have it. */
  readonly needed: boolean;
  readonly value: Expression;
}

/**
 * Largest number of an object's properties that are not required. Each of them may come next, and all of those are
 * looked at for each token.
 */
export const mostOptional = 1024;

/** Largest number of states of an object whose properties are counted. */
const mostCounted = 20_000;

/**
 * Returns the members of an object, with a number of them between two. `others` is a member with another name, which may
 * come any number of times; null if there is none. Returns null if there are too many combinations, or if several members
 * with other names would be needed: two of them could have the same name.
 */
export function* membersOf(
  members: readonly Member[],
  others: Expression | null,
  least: number,
  most: number,
): Steps<Expression | null> {
  const needed = members.filter((member) => member.needed).length;
  if (needed > most) return never;
  const isCounted = least > needed || (most < Infinity && (others !== null || most < members.length));
  if (!isCounted) return yield* uncounted(members, others);
  if (least > members.length + (others === null ? 0 : 1)) return others === null ? never : null;
  return yield* counted(members, others, least, most);
}

/** Returns a member as its parts, so that objects that begin alike are found to do so. */
function partsOf({ name, value }: Member): readonly Expression[] {
  const text = literal(JSON.stringify(name));
  const bytes = (one: Expression): readonly Expression[] => (isText(one) ? one.parts : [one]);
  return [...bytes(text), colon, ...bytes(value)];
}

function* uncounted(members: readonly Member[], others: Expression | null): Steps<Expression> {
  // After a member come these parts, the last ones first, and then `tail`.
  let [run, tail]: [(readonly Expression[])[], Expression] = [
    [],
    others === null ? empty : repeat(sequence(separator, others), 0),
  ];
  let first: () => Expression = () => (others === null ? empty : list(others, 0, Infinity));
  for (let i = members.length - 1; i >= 0; i--) {
    const member = members[i]!;
    const parts = partsOf(member);
    if (isPauseDue()) yield;
    if (!member.needed && run.length > 0)
      [run, tail] = [[], rule("further members", sequenceOf([...joined(run), tail]))];
    const [rest, count, end, before] = [run, run.length, tail, first];
    const start = (): Expression => sequenceOf([...parts, ...joined(rest.slice(0, count)), end]);
    if (member.needed) {
      first = start;
      run.push([separator, ...parts]);
      continue;
    }
    const begun = rule(`${member.name} and what follows`, choice(start(), before()));
    first = () => begun;
    tail = rule(`, ${member.name} and what follows`, choice(sequenceOf([separator, ...parts, tail]), tail));
  }
  return first();
}

function joined(run: readonly (readonly Expression[])[]): Expression[] {
  return [...run].reverse().flat();
}

/** Returns members of which no more and no fewer come than may. */
function* counted(
  members: readonly Member[],
  others: Expression | null,
  least: number,
  most: number,
): Steps<Expression | null> {
  const cap = most < Infinity ? most : least;
  if (members.length * Math.min(cap, members.length) > mostCounted) return null;
  const known = new Map<string, Rule | Expression>();
  /** Returns the members from a place on, when `count` members have come. */
  const after = (at: number, count: number): Expression => {
    const key = `${at},${count}`;
    const found = known.get(key);
    if (found) return found;
    spend(4);
    let made: Expression;
    if (at === members.length) made = further(count);
    else {
      const member = members[at]!;
      const next = most < Infinity ? count + 1 : Math.min(count + 1, cap);
      const start = count === 0 ? [] : [separator];
      const rest = count < most ? after(at + 1, next) : never;
      const taken = rest === never ? never : sequence(...start, ...partsOf(member), rest);
      made = choice(taken, member.needed ? never : after(at + 1, count));
      if (made !== never) made = rule("members", made);
    }
    known.set(key, made);
    return made;
  };
  const further = (count: number): Expression => {
    const missing = Math.max(0, least - count);
    if (missing === 0 && (others === null || count >= most)) return empty;
    // Two members with other names could have the same one.
    if (others === null || missing > 1 || count >= most) return never;
    if (count === 0) return list(others, missing, most);
    return repeat(sequence(separator, others), missing, most - count);
  };
  for (let at = members.length; at >= 0; at--)
    for (let count = Math.min(at, cap); count >= 0; count--) {
      after(at, count);
      if (isPauseDue()) yield;
    }
  const all = after(0, 0);
  return all === never && others !== null ? null : all;
}

/** Returns what names are written as that have no escape and are none of these. */
export function* otherName(names: readonly string[]): Steps<Expression> {
  return yield* nameExcept(names.filter((name) => JSON.stringify(name) === `"${name}"`));
}

function* nameExcept(names: readonly string[]): Steps<Expression> {
  const rest = repeat(yield* keyCharacter([]), 0);
  const byFirst = new Map<string, string[]>();
  for (const name of names.filter((one) => one !== "")) {
    const first = String.fromCodePoint(name.codePointAt(0)!);
    const others = byFirst.get(first);
    if (others) others.push(name.slice(first.length));
    else byFirst.set(first, [name.slice(first.length)]);
  }
  spend(names.length + 8 * byFirst.size);
  if (isPauseDue()) yield;
  const branches: Expression[] = [];
  for (const [first, others] of byFirst) branches.push(sequence(literal(first), yield* nameExcept(others)));
  const other = sequence(yield* keyCharacter([...byFirst.keys()]), rest);
  return choiceOf([...(names.includes("") ? [] : [empty]), other, ...branches]);
}
