// How a text can go on at one place: the bytes with which what is left of its rules can begin.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import type { Expression } from "./expression.js";
import { type FirstBytes, firstBytes, narrow, narrowAlike, startsAt } from "./first-bytes.js";
import { endOfText, type Frame, type Item, type Places, type Rest } from "./places.js";
import { tooMany, type Visit } from "./visit.js";

/** Bytes with which a state goes on, and what is left after them. */
interface Edge {
  readonly low: number;
  readonly high: number;
  /** Options of which those with the byte are left before the tail; null if only the tail is left. */
  readonly options: FirstBytes | null;
  readonly tail: Rest | null;
  readonly frame: Frame;
}

/** Ways in which the items of a state can begin. */
export interface Closure {
  /** True if the text may end here. */
  accepts: boolean;
  /** True if the rule of an unknown caller may end here. */
  open: boolean;
  readonly edges: Edge[];
  /** Number of ways in which the bytes of the edges go on. */
  ways: number;
  /** Number of places that were looked at. */
  places: number;
}

/** Expression that comes next, what is left after it, and the caller of its rule. */
interface Place {
  readonly head: Expression;
  readonly tail: Rest | null;
  readonly frame: Frame;
}

/** Largest number of ways in which a text can go on at one place, and of the places from which they are found. */
const mostWays = 8192;
const mostPlaces = 2 ** 15;

/** Places that are looked at between two pauses. */
export const workBetweenPauses = 2 ** 12;

/** Returns the closure of no items. */
export function emptyClosure(): Closure {
  return { accepts: false, open: false, edges: [], ways: 0, places: 0 };
}

/** Returns the bytes of an edge. */
export function bytesOfEdge(edge: Edge): readonly { readonly low: number; readonly high: number }[] {
  return edge.options?.starts ?? [edge];
}

/** Returns the bytes around `one` after which the same is left as after it. */
export function bytesAlike({ edges }: Readonly<Closure>, one: number): { low: number; high: number } {
  const range = { low: 0, high: 255 };
  for (const edge of edges)
    if (edge.options) narrowAlike(edge.options, one, range);
    else narrow(edge, one, range);
  return range;
}

/** Returns what is left after a byte. */
export function itemsAfter({ edges }: Readonly<Closure>, one: number, places: Places): Item[] {
  const items: Item[] = [];
  for (const { low, high, options, tail, frame } of edges) {
    if (one < low || high < one) continue;
    if (!options) items.push(places.item(tail, frame));
    else
      for (const start of startsAt(options, one))
        if (start.low <= one && one <= start.high)
          items.push(places.item(start.parts ? places.pushAll(start.parts, tail, 1) : tail, frame));
  }
  return items;
}

/**
 * Returns what items can begin with. It yields where `visit` has counted enough work for a pause.
 *
 * @throws ERR_ARGUMENT if there are too many ways to begin.
 */
export function* closureOf(items: readonly Item[], places: Places, visit: Visit | null): Steps<Closure> {
  const found = emptyClosure();
  const rests = new Map<Frame, Set<Rest>>();
  const calls = new Map<Frame, Set<Rest>>();
  /** Returns true if a rest is seen for the first time. */
  const isNew = (seen: Map<Frame, Set<Rest>>, rest: Rest, frame: Frame): boolean => {
    let those = seen.get(frame);
    if (!those) seen.set(frame, (those = new Set<Rest>()));
    const { size } = those;
    return those.add(rest).size > size;
  };
  // A list instead of recursion, because rules may call each other thousands of times before the first byte.
  const pending: Place[] = [];
  const visitRest = (rest: Rest | null, frame: Frame): void => {
    while (!rest && frame.parent) ({ rest, parent: frame } = frame as { rest: Rest; parent: Frame });
    if (rest) {
      if (isNew(rests, rest, frame)) pending.push({ head: rest.head, tail: rest.tail, frame });
    } else if (frame === endOfText) found.accepts = true;
    else found.open = true;
  };
  for (const { rest, frame } of items) visitRest(rest, frame);
  for (let place = pending.pop(); place; place = pending.pop()) {
    const { head, tail, frame } = place;
    if (found.ways > mostWays)
      throw new HeedError(
        "ERR_ARGUMENT",
        `format: expected at most ${mostWays} ways in which a text can go on at one place, got more`,
      );
    if (++found.places > mostPlaces) throw tooMany();
    if (visit && ++visit.work > workBetweenPauses) yield;
    if (head.kind === "byte") {
      found.edges.push({ low: head.low, high: head.high, options: null, tail, frame });
      found.ways++;
    } else if (head.kind === "choice") {
      const first = firstBytes(head);
      if (first && first.starts.length > 0) {
        found.edges.push({ low: 0, high: 255, options: first, tail, frame });
        found.ways += first.starts.length;
      }
      for (const option of first ? first.others : head.options) pending.push({ head: option, tail, frame });
    } else if (head.kind === "sequence") {
      const { parts } = head;
      const after = places.pushAll(parts, tail);
      found.places += parts.length >> 3;
      if (visit) visit.work += parts.length;
      visitRest(after, frame);
    } else if (isNew(calls, places.push(head, tail), frame)) {
      // Only repetitions and rules can come back to themselves.
      if (head.kind === "rule") {
        // A call at the end of a rule needs no frame.
        const caller = tail ? places.frame(tail, frame) : frame;
        pending.push({ head: head.body, tail: null, frame: caller });
        continue;
      }
      if (head.least === 0) visitRest(tail, frame);
      if (head.most > 0) pending.push({ head: head.of, tail: places.push(places.fewer(head), tail), frame });
    }
  }
  return found;
}
