// Which tokens may follow: an automaton over bytes whose states are made when they are first reached, and the tokens
// that each state allows.
//
// A state is a set of items: what is left of a rule, and the frames of the rules that called it, as in a stack machine.
// All of them are interned, so that equal ones are found by their number, and states by the numbers of their items.
//
// The tokens of an item depend on the frames below it only where a token goes on after the end of the item's rule. So
// the tokens are found once for what is left of the rule, together with the places in the tree of tokens where the rule
// ends; from these the walk goes on for each frame. Without this, every string of a schema would need a walk over the
// whole vocabulary (compare Dong et al. 2024, arXiv:2411.15100).
import { append } from "../util/append.js";
import { atOnce, type Steps } from "../util/turns.js";
import { countMemory, largestOther, mostTotal } from "./automaton-memory.js";
import {
  bytesAlike,
  bytesOfEdge,
  type Closure,
  closureOf,
  emptyClosure,
  itemsAfter,
  workBetweenPauses,
} from "./closure.js";
import type { Expression } from "./expression.js";
import { endOfText, type Frame, type Item, Places, type Rest, unknownCaller, withoutFewer } from "./places.js";
import { isFree, notPlain, plainCharacters } from "./plain-characters.js";
import { plainSets, rowBytes, StateTable } from "./state-table.js";
import { addTo, bytesOf, compact, type OwnTokens, type TokenSet } from "./token-set.js";
import type { TokenNodes, TokenTrie } from "./token-trie.js";
import { dead, partsBelow, type TreePart, walkTokens } from "./token-walk.js";
import { tooMany, Visit } from "./visit.js";

/** A state. */
export interface State extends Readonly<Closure> {
  readonly id: number;
  readonly items: readonly Item[];
  /** Object of the automaton that has made the state, and has not forgotten it since. */
  readonly era: object;
  allowed: TokenSet | null;
}

/**
 * Marks of an expression and a set of characters: not all of them are a text of it, all of them are, or all of them are and
 * nothing can follow them.
 */
const [notAll, canEnd, mustEnd] = [0, 1, 2] as const;

/** Number of nodes between two pauses. */
const nodesBetweenPauses = 2 ** 14;
/**
 * Largest number of rests whose tokens are found one by one for a state, to be kept for others. If more are not known yet,
 * all are found together: one walk takes less time than several, but nothing is kept that other states need.
 */
const mostAlone = 8;
/** Steps at one place after which several rests whose tokens are not known yet are no longer looked at one by one. */
const stepsAlone = 2 ** 15;
/** Steps as which a state counts that comes up for the first time. */
const stateSteps = 256;
/** Places for which a further state counts. */
const stateWork = 64;

/** Tells for each repeated expression how it goes on with the characters of each set of plain ones. */
const setsWithin = new WeakMap<Expression, readonly number[]>();
const none: readonly number[] = plainCharacters.map(() => 0);

/** Bytes that an automaton may take, of which the tokens at one place may add most, and those that are always kept. */
const mostBytes = 28 * 2 ** 20;
const mostAdded = 20 * 2 ** 20;
const fewBytes = 6 * 2 ** 20;

/** Signal that the states of a search have been forgotten, so that it has to begin again. */
class Forgotten extends Error {}

/** States and the tokens that they allow, for one vocabulary. Grammars share it, and so the work for common rules. */
export class Automaton {
  readonly trie: TokenTrie;
  readonly #words: number;
  /** A mark for each node of the tokens, for a short time; null until it is needed. */
  #marks: Uint8Array | null = null;
  #era: object = {};
  #places = new Places();
  #states: State[] = [];
  #table = new StateTable();
  #known = new Map<string, State>();
  #sets = new Map<string, TokenSet>();
  #formats = new Set<Expression>();
  /** Bytes of the states and of the sets of tokens. */
  #bytes = 0;
  /** Called when the automaton has become so large that it should be kept only while it is used. */
  onLarge: (() => void) | null = null;

  constructor(trie: TokenTrie) {
    this.trie = trie;
    this.#words = Math.ceil(trie.size / 32);
    this.forget();
    countMemory(this);
  }

  /** Number of bytes that it takes, about. */
  get bytes(): number {
    return this.#bytes + this.#places.bytes;
  }

  /** Formats to which the states refer. */
  get formats(): ReadonlySet<Expression> {
    return this.#formats;
  }

  /** Notes that states of a format are made from now on. Texts that go on say it again, because states are forgotten. */
  use(format: Expression): void {
    this.#formats.add(format);
  }

  /** Forgets all states. Texts that have begun go on: their states are made again. */
  forget(): void {
    [this.#era, this.#places, this.#states, this.#bytes] = [{}, new Places(), [], 0];
    this.#table = new StateTable();
    [this.#known, this.#sets] = [new Map<string, State>(), new Map<string, TokenSet>()];
    this.#formats = new Set();
    // The numbers 0 and 1 have meanings of their own.
    for (let i = 0; i < 2; i++) this.#states.push(this.#state([], emptyClosure()));
  }

  /** Returns the state before a text that has to match. */
  start(root: Expression): State {
    this.use(root);
    return atOnce(this.#stateOf([this.#places.item(this.#places.push(root, null), endOfText)]));
  }

  /**
   * Returns the state after the bytes, or null if no text goes on with them.
   *
   * @throws ERR_ARGUMENT if more than `most` places would have to be looked at.
   */
  after(state: State, bytes: Uint8Array, most = Infinity): State | null {
    let at = this.adopt(state);
    let work = 0;
    for (const one of bytes) {
      const known = this.#table.after(at.id, one);
      const next = known || atOnce(this.#next(at, one));
      if (next === dead) return null;
      at = this.#states[next]!;
      if (!known) work += at.items.length + at.places;
      if (work > most) throw tooMany();
    }
    return at;
  }

  /** Returns the same state as one of this automaton, if another has made it or this one has forgotten it. */
  adopt(state: State): State {
    if (state.era === this.#era) return state;
    return atOnce(this.#stateOf(state.items.map((item) => this.#places.ownItem(item))));
  }

  /**
   * Returns the tokens that may follow.
   *
   * @throws ERR_ARGUMENT if that would take too long, or too much memory.
   */
  allowed(state: State): TokenSet {
    return atOnce(this.findAllowed(state)).allowed!;
  }

  /** Finds the tokens that may follow, in steps, and returns the state with them. It throws what `allowed` throws. */
  *findAllowed(state: State): Steps<State> {
    for (;;) {
      if (state.allowed) return state;
      const own = this.adopt(state);
      try {
        own.allowed ??= yield* this.#find(own, new Visit(this.#era, this.bytes, this.trie.longest));
        if (this.bytes > fewBytes) this.onLarge?.();
        return own;
      } catch (cause) {
        if (cause instanceof Forgotten) continue;
        // What was made for a form that cannot be followed is of no use.
        if (this.bytes > fewBytes && own.era === this.#era) this.forget();
        throw cause;
      }
    }
  }

  *#find(state: State, visit: Visit): Steps<TokenSet> {
    yield* this.#pause(visit);
    const items: Item[] = [];
    for (const { rest, frame } of state.items)
      items.push(this.#places.item(rest && (yield* this.#clamped(rest, visit)), frame));
    const key = items.map(({ id }) => id).join();
    const known = this.#sets.get(key);
    if (known) return known;
    const bits = new Int32Array(this.#words);
    yield* this.#add(bits, items, visit);
    // Another text may have found it meanwhile.
    const found = this.#sets.get(key) ?? compact(bits);
    this.#sets.set(key, found);
    this.#bytes += bytesOf(found) + key.length;
    return found;
  }

  /** Lets others run, and checks how much memory is taken. */
  *#pause(visit: Visit): Steps<void> {
    visit.added += this.bytes - visit.before;
    if (visit.added > mostAdded) throw tooMany();
    if (this.bytes > mostBytes) this.forget();
    largestOther(this, mostTotal)?.forget();
    if (visit.era !== this.#era) throw new Forgotten();
    yield;
    if (visit.era !== this.#era) throw new Forgotten();
    visit.before = this.bytes;
    visit.work = 0;
  }

  /** Adds the tokens that may follow items. */
  *#add(bits: Int32Array, items: readonly Item[], visit: Visit): Steps<void> {
    const byRest = new Map<Rest, Frame[]>();
    for (const { rest, frame } of items) {
      if (!rest) continue;
      const frames = byRest.get(rest);
      if (frames) frames.push(frame);
      else byRest.set(rest, [frame]);
    }
    const unknown = [...byRest.keys()].filter(({ own }) => !own);
    const together = unknown.length > mostAlone ? items : yield* this.#knowAlone(unknown, byRest, visit);
    if (together.length > 0) {
      const state = yield* this.#stateOf(together, visit);
      yield* this.#prepare(state, 0, visit);
      const most = this.#table.plain[plainSets * state.id]!;
      yield* this.#walkAll(state, most < this.trie.free.longest ? null : most, bits, null, visit);
      if (together === items) return;
    }
    // Rules that have begun at different places of a text often have the same callers.
    const groups = new Map<string, { callers: Item[]; rests: Rest[] }>();
    for (const [rest, frames] of byRest) {
      addTo(bits, (yield* this.#ownTokens(rest, visit)).tokens);
      const callers = frames.filter(({ parent }) => parent).map((one) => this.#places.item(one.rest, one.parent!));
      if (callers.length === 0) continue;
      const key = callers.map(({ id }) => id).join();
      const group = groups.get(key);
      if (group) group.rests.push(rest);
      else groups.set(key, { callers, rests: [rest] });
    }
    for (const { callers, rests } of groups.values()) yield* this.#addCallers(bits, callers, rests, visit);
  }

  /**
   * Finds the tokens of rests one by one, as long as this takes little. Removes the others from `byRest`, and returns their
   * items.
   */
  *#knowAlone(unknown: Rest[], byRest: Map<Rest, Frame[]>, visit: Visit): Steps<readonly Item[]> {
    while (unknown.length > 0 && (unknown.length === 1 || visit.steps < stepsAlone))
      yield* this.#ownTokens(unknown.pop()!, visit);
    const items = unknown.flatMap((rest) => byRest.get(rest)!.map((frame) => this.#places.item(rest, frame)));
    for (const rest of unknown) byRest.delete(rest);
    return items;
  }

  /** Adds the tokens with which the callers of rules go on after their ends, for what is left of each of these rules. */
  *#addCallers(bits: Int32Array, callers: readonly Item[], rests: readonly Rest[], visit: Visit): Steps<void> {
    let own: OwnTokens[] = [];
    for (const rest of rests) own.push(yield* this.#ownTokens(rest, visit));
    if (own.some(({ ends }) => ends)) yield* this.#add(bits, callers, visit);
    if (own.every(({ pops, lacksFree }) => pops.length === 0 && !lacksFree)) return;
    const state = yield* this.#stateOf(callers, visit);
    const next = state.edges.flatMap(bytesOfEdge);
    if (next.some(beginsFree)) {
      own = [];
      for (const rest of rests) own.push(yield* this.#ownTokens(rest, visit, true));
    }
    this.#marks ??= new Uint8Array(this.trie.bytes.length);
    const pops = own.map((one) => one.pops);
    for (const [i, part] of partsBelow(this.trie, pops, next, this.#marks).entries()) {
      yield* this.#walk(state, this.trie, part, bits, null, visit);
      if (i % 1024 === 1023) yield* this.#pause(visit);
    }
  }

  /** Returns the tokens of what is left of a rule; with all the nodes at which it may end, if `needsAll` is true. */
  *#ownTokens(rest: Rest, visit: Visit, needsAll = false): Steps<OwnTokens> {
    if (rest.own && !(needsAll && rest.own.lacksFree)) return rest.own;
    const bits = new Int32Array(this.#words);
    const pops: number[] = [];
    const state = yield* this.#stateOf([this.#places.item(rest, unknownCaller)], visit);
    yield* this.#prepare(state, 0, visit);
    const most = needsAll ? null : yield* this.#freeCharacters(state, rest, visit);
    yield* this.#walkAll(state, most, bits, pops, visit);
    if (rest.own && !(needsAll && rest.own.lacksFree)) return rest.own;
    const tokens = compact(bits);
    this.#bytes += bytesOf(tokens) + 4 * pops.length + 200;
    // With a tail that begins with another character it does not end within free texts.
    const lacksFree = most !== null && most < this.trie.free.longest && rest.tail === null;
    return (rest.own = { tokens, ends: state.open, pops: Int32Array.from(pops), lacksFree });
  }

  /** Walks over all tokens; over those of free texts only unless they are known to be those of at most `most` characters. */
  *#walkAll(start: State, most: number | null, bits: Int32Array, pops: number[] | null, visit: Visit): Steps<void> {
    const { free, others, origins } = this.trie;
    const nodes = most === null ? this.trie : others;
    if (most !== null) free.addTo(bits, most);
    const found: number[] = [];
    yield* this.#walk(start, nodes, { first: 0, end: nodes.bytes.length, depth: 0 }, bits, pops && found, visit);
    if (pops) append(pops, most === null ? found : found.map((node) => origins[node]!));
  }

  /**
   * Returns the largest number of characters of the tokens of free texts that what is left of a rule may have, if this
   * number decides about each of these tokens; else null.
   */
  *#freeCharacters({ id }: State, { head, tail }: Rest, visit: Visit): Steps<number | null> {
    const count = this.#table.plain[plainSets * id]!;
    if (count >= this.trie.free.longest) return count;
    if (count === 0 || (tail && !beginsWithOther(tail.head))) return null;
    if (head.kind === "rule") return head.most === count ? count : null;
    if (head.kind !== "repeat" || head.most !== count) return null;
    const [after] = yield* this.#setsWithin(head.of, visit);
    return after === mustEnd ? count : null;
  }

  /** Walks over the nodes from `first` to `end`, which are below one of `depth` bytes, as far as there are states. */
  *#walk(
    start: State,
    nodes: TokenNodes,
    { first, end, depth }: TreePart,
    bits: Int32Array,
    pops: number[] | null,
    visit: Visit,
  ): Steps<void> {
    visit.path[depth] = start.id;
    yield* this.#prepare(start, 0, visit);
    for (let node = first; node < end;) {
      const pause = Math.min(end, node + nodesBetweenPauses);
      node = walkTokens(nodes, this.#table, visit, { first: node, end: pause }, bits, pops);
      if (node < pause) {
        // A state that comes up for the first time.
        visit.steps += stateSteps;
        const from = this.#states[visit.path[nodes.depths[node]! - 1]!]!;
        const one = nodes.bytes[node]!;
        const next = this.#table.after(from.id, one) || (yield* this.#next(from, one, visit));
        if (next !== dead) yield* this.#prepare(this.#states[next]!, nodes.further[node]!, visit);
        if (visit.work > workBetweenPauses) yield* this.#pause(visit);
        visit.add(this.#states[next]!);
      } else if (node < end) yield* this.#pause(visit);
    }
  }

  /** Finds what a walk asks about a state, and about its twin if that one is the same for `further` bytes. */
  *#prepare(state: State, further: number, visit: Visit): Steps<void> {
    const table = this.#table;
    if (!table.knowsPlain(state.id)) table.setPlain(state.id, yield* this.#plainOf(state, visit));
    if (further === 0 || further > table.reach[state.id]!) return;
    let twin = table.twins[state.id]!;
    if (twin === 0) {
      const items = state.items.map(({ rest, frame }) =>
        this.#places.item(rest && this.#places.unlimited(rest), frame),
      );
      twin = table.twins[state.id] = (yield* this.#stateOf(items, visit)).id;
    }
    yield* this.#prepare(this.#states[twin]!, 0, visit);
    visit.add(this.#states[twin]!);
  }

  /** Returns the numbers of plain characters that may follow a state, whichever they are, because of one of its items. */
  *#plainOf({ items }: State, visit: Visit): Steps<readonly number[]> {
    let most = none;
    for (const { rest } of items) {
      if (!rest) continue;
      let own = none;
      if (rest.head.kind === "repeat") {
        const { of, most: count } = rest.head;
        own = (yield* this.#setsWithin(of, visit)).map((after) =>
          after === notAll ? 0 : Math.min(count, notPlain - 1),
        );
      } else if (rest.head.kind === "rule" && rest.head.plain) own = rest.head.plain;
      if (own.some((one, i) => one > most[i]!)) most = most.map((one, i) => Math.max(one, own[i]!));
    }
    return most;
  }

  /** Returns for each set of plain characters how an expression goes on with all of them. */
  *#setsWithin(of: Expression, visit: Visit): Steps<readonly number[]> {
    const known = setsWithin.get(of);
    if (known !== undefined) return known;
    const state = yield* this.#stateOf([this.#places.item(this.#places.push(of, null), unknownCaller)], visit);
    const found: number[] = [];
    for (const one of plainCharacters) found.push(yield* this.#afterAll(state, [one], visit));
    setsWithin.set(of, found);
    return found;
  }

  /** Returns what there is after each text of some parts, which are made of bytes, sequences and choices. */
  *#afterAll(state: State, [first, ...rest]: readonly Expression[], visit: Visit): Steps<number> {
    if (!first) return !state.open ? notAll : state.edges.length > 0 ? canEnd : mustEnd;
    if (first.kind === "sequence") return yield* this.#afterAll(state, [...first.parts, ...rest], visit);
    let least: number = mustEnd;
    if (first.kind === "choice") {
      for (const option of first.options) {
        least = Math.min(least, yield* this.#afterAll(state, [option, ...rest], visit));
        if (least === notAll) break;
      }
      return least;
    }
    if (first.kind !== "byte") return notAll;
    const after = new Set<number>();
    for (let one = first.low; one <= first.high; one++) {
      const next = this.#table.after(state.id, one) || (yield* this.#next(state, one, visit));
      if (next === dead) return notAll;
      after.add(next);
    }
    for (const next of after) {
      least = Math.min(least, yield* this.#afterAll(this.#states[next]!, rest, visit));
      if (least === notAll) break;
    }
    return least;
  }

  *#next(state: State, one: number, visit: Visit | null = null): Steps<number> {
    const items = itemsAfter(state, one, this.#places);
    if (visit) visit.work += items.length + state.edges.length / 16;
    const next = items.length === 0 ? dead : (yield* this.#stateOf(items, visit)).id;
    // Most characters of a set lead to the same state, which need not be found again for each of them.
    const { low, high } = bytesAlike(state, one);
    if (this.#table.setAfter(state.id, low, high, next)) this.#bytes += rowBytes;
    return next;
  }

  *#stateOf(items: readonly Item[], visit: Visit | null = null): Steps<State> {
    const different = items.length > 1 ? withoutFewer(new Set(items)) : [...items];
    const sorted = different.sort((a, b) => a.id - b.id);
    const key = sorted.map(({ id }) => id).join();
    const known = this.#known.get(key);
    if (known) return known;
    const steps = closureOf(sorted, this.#places, visit);
    let step = steps.next();
    for (; !step.done; step = steps.next()) yield* this.#pause(visit!);
    const closure = step.value;
    // Another search may have made it meanwhile.
    const made = this.#known.get(key);
    if (made) return made;
    const state = this.#state(sorted, closure);
    this.#states.push(state);
    this.#known.set(key, state);
    if (visit) visit.work += stateWork;
    this.#bytes += 320 + key.length + 8 * sorted.length + 64 * state.edges.length;
    return state;
  }

  #state(items: readonly Item[], closure: Closure): State {
    const reach = items.reduce((least, { rest }) => Math.min(least, rest?.reach ?? Infinity), Infinity);
    return {
      id: this.#table.add(closure.open, reach < Infinity ? reach : 0),
      items,
      ...closure,
      era: this.#era,
      allowed: null,
    };
  }

  /**
   * Returns the same with numbers of repetitions and of characters that no token can tell apart, so that the tokens of a long
   * text with a limit are found once.
   */
  *#clamped(rest: Rest, visit: Visit): Steps<Rest> {
    const longer: Rest[] = [];
    let one: Rest | null = rest;
    for (; one && !one.clamped; one = one.tail) longer.push(one);
    for (let after = one?.clamped ?? null, next = longer.pop(); next; next = longer.pop()) {
      if (++visit.work > workBetweenPauses) yield* this.#pause(visit);
      after = next.clamped = this.#places.push(this.#clampedHead(next.head), after);
    }
    return rest.clamped!;
  }

  #clampedHead(head: Expression): Expression {
    const { longest } = this.trie;
    if (head.kind === "rule" && head.unlimited && head.unlimited.characters >= longest) return head.unlimited.rule();
    if (head.kind !== "repeat") return head;
    return this.#places.repeat(head.of, Math.min(head.least, longest + 1), head.most > longest ? Infinity : head.most);
  }
}

/** Returns true if no text of an expression begins with a character of free texts. */
function beginsWithOther(of: Expression): boolean {
  if (of.kind === "sequence") return of.parts.length > 0 && beginsWithOther(of.parts[0]!);
  return of.kind === "byte" && !beginsFree(of);
}

/** Returns true if a character of free texts may begin with one of the bytes. */
function beginsFree({ low, high }: { readonly low: number; readonly high: number }): boolean {
  if (high >= 0x80) return true;
  for (let one = low; one <= high; one++) if (isFree(one)) return true;
  return false;
}
