// What may be left of a text: lists of expressions, and the callers of rules, as in a stack machine. Equal ones are one
// object with a number of its own.
import type { Expression, Repeat } from "./expression.js";
import type { OwnTokens } from "./token-set.js";

/** Rest of a rule: an expression, and what comes after it. */
export interface Rest {
  readonly id: number;
  readonly head: Expression;
  readonly tail: Rest | null;
  /** Number of characters for which it goes on as without limits to the lengths of texts; Infinity if it has none. */
  readonly reach: number;
  own: OwnTokens | null;
  /** Rest with numbers of repetitions that no token can tell apart instead of its own; null until it is asked for. */
  clamped: Rest | null;
}

/** A caller of a rule: what is left of it after the call, and its own caller. */
export interface Frame {
  readonly id: number;
  /** Null at the bottom of the frames: the end of the text, or a caller that is not known. */
  readonly rest: Rest | null;
  readonly parent: Frame | null;
}

/** Bottom of the frames of a text. */
export const endOfText: Frame = { id: 0, rest: null, parent: null };
/** Bottom of the frames of a rule whose caller is not known. */
export const unknownCaller: Frame = { id: 1, rest: null, parent: null };

/** Rest of a rule and its caller: a way in which a text can go on. */
export interface Item {
  readonly id: number;
  /** Null if nothing is left, at the bottom of the frames. */
  readonly rest: Rest | null;
  readonly frame: Frame;
}

/** Numbers of rests, frames and items are below this one, so that two of them make one number. */
const mostIds = 2 ** 26;

/** Bytes of an object with its entry in a map, as measured. */
const objectBytes = 120;

/** Makes rests, frames and items. */
export class Places {
  readonly #heads = new Map<Expression, number>();
  readonly #rests = new Map<number, Rest>();
  readonly #frames = new Map<number, Frame>();
  readonly #items = new Map<number, Item>();
  readonly #repeats = new Map<Expression, Map<string, Repeat>>();
  #repeatCount = 0;

  /** Number of bytes that they take, about. */
  get bytes(): number {
    const { size } = this.#heads;
    return objectBytes * (size / 2 + this.#rests.size + this.#frames.size + this.#items.size + 2 * this.#repeatCount);
  }

  push(given: Expression, tail: Rest | null): Rest {
    // Equal repetitions are one, so that what is known of them is known for all formats.
    const head = given.kind === "repeat" ? this.repeat(given.of, given.least, given.most) : given;
    let number = this.#heads.get(head);
    if (number === undefined) this.#heads.set(head, (number = this.#heads.size));
    const key = number * mostIds + (tail ? tail.id : 0);
    let found = this.#rests.get(key);
    if (!found) {
      const own = head.kind === "rule" && head.unlimited ? head.unlimited.characters : Infinity;
      const reach = Math.min(own, tail?.reach ?? Infinity);
      this.#rests.set(key, (found = { id: this.#rests.size + 1, head, tail, reach, own: null, clamped: null }));
    }
    return found;
  }

  /** Returns what is left of a rule without limits to the lengths of texts. */
  unlimited(rest: Rest): Rest {
    const limited: Rest[] = [];
    let one: Rest | null = rest;
    for (; one && one.reach < Infinity; one = one.tail) limited.push(one);
    const open = ({ head }: Rest): Expression =>
      head.kind === "rule" && head.unlimited ? head.unlimited.rule() : head;
    return limited.reduceRight<Rest | null>((after, next) => this.push(open(next), after), one)!;
  }

  /** Returns what is left of parts, from one of them on, with a tail after them. */
  pushAll(parts: readonly Expression[], tail: Rest | null, from = 0): Rest | null {
    let after = tail;
    for (let i = parts.length - 1; i >= from; i--) after = this.push(parts[i]!, after);
    return after;
  }

  frame(rest: Rest, parent: Frame): Frame {
    const key = rest.id * mostIds + parent.id;
    let found = this.#frames.get(key);
    if (!found) this.#frames.set(key, (found = { id: this.#frames.size + 2, rest, parent }));
    return found;
  }

  item(rest: Rest | null, frame: Frame): Item {
    // What comes after the end of a rule is left of its caller.
    while (!rest && frame.parent) ({ rest, parent: frame } = frame as { rest: Rest; parent: Frame });
    const key = (rest ? rest.id : 0) * mostIds + frame.id;
    let found = this.#items.get(key);
    if (!found) this.#items.set(key, (found = { id: this.#items.size, rest, frame }));
    return found;
  }

  /** Returns a repetition of which one has been begun. */
  fewer({ of, least, most }: Repeat): Repeat {
    return this.repeat(of, Math.max(0, least - 1), most - 1);
  }

  repeat(of: Expression, least: number, most: number): Repeat {
    let known = this.#repeats.get(of);
    if (!known) this.#repeats.set(of, (known = new Map<string, Repeat>()));
    const key = `${least},${most}`;
    let found = known.get(key);
    if (!found) {
      known.set(key, (found = { kind: "repeat", of, least, most }));
      this.#repeatCount++;
    }
    return found;
  }

  /** Returns what is left of a rule that others have made as one of these. */
  #ownRest(rest: Rest): Rest {
    const heads: Expression[] = [];
    for (let one: Rest | null = rest; one; one = one.tail) heads.push(one.head);
    return heads.reduceRight<Rest | null>((after, head) => this.push(head, after), null)!;
  }

  /** Returns an item that others have made as one of these. */
  ownItem({ rest, frame }: Item): Item {
    const frames: Rest[] = [];
    let bottom = frame;
    for (; bottom.parent; bottom = bottom.parent) frames.push(bottom.rest!);
    const own = frames.reduceRight((parent, one) => this.frame(this.#ownRest(one), parent), bottom);
    return this.item(rest && this.#ownRest(rest), own);
  }
}

/**
 * Returns the items without those that another one makes superfluous: what may be repeated up to 3 times may also be
 * repeated up to 5 times. A text whose repetitions can be counted in many ways would have an item for each.
 */
export function withoutFewer(items: Iterable<Item>): Item[] {
  const groups = new Map<Expression, Item[]>();
  const kept: Item[] = [];
  for (const item of items) {
    const head = item.rest?.head;
    if (head?.kind !== "repeat") {
      kept.push(item);
      continue;
    }
    const group = groups.get(head.of);
    if (group) group.push(item);
    else groups.set(head.of, [item]);
  }
  for (const group of groups.values()) {
    if (group.length > 1) group.sort((a, b) => repeatOf(b).most - repeatOf(a).most);
    const best = new Map<Rest | null, Map<Frame, number>>();
    for (const item of group) {
      const { least } = repeatOf(item);
      const { tail } = item.rest!;
      let byFrame = best.get(tail);
      if (!byFrame) best.set(tail, (byFrame = new Map<Frame, number>()));
      // Those before may be repeated at least as often.
      if ((byFrame.get(item.frame) ?? Infinity) <= least) continue;
      byFrame.set(item.frame, least);
      kept.push(item);
    }
  }
  return kept;
}

function repeatOf({ rest }: Item): Repeat {
  return rest!.head as Repeat;
}
