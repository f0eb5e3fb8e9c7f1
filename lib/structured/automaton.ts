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
import { HeedError } from "../errors.js";
import { atOnce, type Steps } from "../turns.js";
import type { Expression, Repeat } from "./expression.js";
import type { TokenTrie } from "./token-trie.js";

/** Rest of a rule: an expression, and what comes after it. */
interface Rest {
  readonly id: number;
  readonly head: Expression;
  readonly tail: Rest | null;
  /** Longer lists that end with this one, by their heads. */
  longer: Map<Expression, Rest> | null;
  own: OwnTokens | null;
}

/** A caller of a rule: what is left of it after the call, and its own caller. */
interface Frame {
  readonly id: number;
  readonly rest: Rest;
  readonly parent: Frame | null;
}

interface Item {
  readonly id: number;
  /** Null if nothing is left, at the bottom of the frames. */
  readonly rest: Rest | null;
  readonly frame: Frame | null;
  readonly bottom: Bottom;
}

/** Bottom of the frames: the end of the text, or a caller that is not known. */
type Bottom = "root" | "open";

/** Tokens that may follow an item, as far as its rule decides, and the nodes at which the rule has ended. */
interface OwnTokens {
  readonly tokens: TokenSet;
  /** True if the rule may end before the first token. */
  readonly ends: boolean;
  readonly pops: Int32Array;
}

/** Expression that comes next, what is left after it, and the callers of its rule. */
interface Place {
  readonly head: Expression;
  readonly tail: Rest | null;
  readonly frame: Frame | null;
  readonly bottom: Bottom;
}

/** A set of tokens: their ids if they are few, or a bit for each token. */
export type TokenSet = { readonly ids: Int32Array } | { readonly bits: Int32Array };

/** Bytes with which a state goes on, and what is left after them. */
interface Edge {
  readonly low: number;
  readonly high: number;
  readonly tail: Rest | null;
  readonly frame: Frame | null;
  readonly bottom: Bottom;
}

/** A state. */
export interface State {
  readonly id: number;
  readonly items: readonly Item[];
  /** True if the text may end here. */
  accepts: boolean;
  /** True if the rule of an unknown caller may end here. */
  open: boolean;
  edges: readonly Edge[];
  /** Number of the state after each byte; 0 if it is not known, and 1 if there is none. */
  readonly next: Int32Array;
  allowed: TokenSet | null;
}

const unknown = 0;
const dead = 1;

/** Largest number of ways in which a text can go on at one place. */
const mostEdges = 8192;
/** Largest number of states that the tokens at one place lead to; one with many ways to go on counts as several. */
const mostVisited = 2 ** 16;
/** Number of nodes, and of states that are new, between two pauses. */
const nodesBetweenPauses = 2 ** 14;
const statesBetweenPauses = 32;

/** States that the tokens at one place have led to. */
class Visit {
  #seen = new Uint8Array(1024);
  #weight = 0;

  /** @throws ERR_ARGUMENT if there are too many. */
  add({ id, items, edges }: State): void {
    if (id >= this.#seen.length) {
      const larger = new Uint8Array(2 * id);
      larger.set(this.#seen);
      this.#seen = larger;
    }
    if (this.#seen[id] === 1) return;
    this.#seen[id] = 1;
    this.#weight += 1 + (items.length + edges.length) / 4;
    if (this.#weight > mostVisited)
      throw new HeedError(
        "ERR_ARGUMENT",
        "format: expected a form in which the next characters decide more of what follows, got one with too many possibilities",
      );
  }
}

/** States and the tokens that they allow, for one vocabulary. Grammars share it, and so the work for common rules. */
export class Automaton {
  readonly trie: TokenTrie;
  readonly #words: number;
  readonly #roots = new Map<Expression, Rest>();
  readonly #frames = new Map<string, Frame>();
  readonly #items = new Map<string, Item>();
  readonly #states: State[] = [];
  readonly #known = new Map<string, State>();
  readonly #sets = new Map<string, TokenSet>();
  readonly #repeats = new Map<Expression, Map<string, Repeat>>();
  #count = 0;
  /** Bytes of the token sets. */
  #bytes = 0;

  constructor(trie: TokenTrie) {
    this.trie = trie;
    this.#words = Math.ceil(trie.size / 32);
    // The numbers 0 and 1 have meanings of their own.
    this.#states.push(this.#state([]), this.#state([]));
  }

  /** True if it has become so large that a new one should take its place. */
  get full(): boolean {
    return this.#states.length > 20_000 || this.#bytes > 2 ** 27;
  }

  /** Returns the state before a text that has to match. */
  start(root: Expression): State {
    return this.#stateOf([this.#item(this.#push(root, null), null, "root")]);
  }

  /** Returns the state after the bytes, or null if no text goes on with them. */
  after(state: State, bytes: Uint8Array): State | null {
    let at = state;
    for (const one of bytes) {
      const next = this.#next(at, one);
      if (next === dead) return null;
      at = this.#states[next]!;
    }
    return at;
  }

  /** Returns a state of another automaton for the same tokens as one of this automaton. */
  adopt(state: State): State {
    return this.#stateOf(
      state.items.map(({ rest, frame, bottom }) =>
        this.#item(rest && this.#ownRest(rest), frame && this.#ownFrame(frame, bottom), bottom),
      ),
    );
  }

  /**
   * Returns the tokens that may follow.
   *
   * @throws ERR_ARGUMENT if that would take too long, or too much memory.
   */
  allowed(state: State): TokenSet {
    return atOnce(this.findAllowed(state));
  }

  /** Finds the tokens that may follow, in steps. It throws what `allowed` throws. */
  *findAllowed(state: State): Steps<TokenSet> {
    if (state.allowed) return state.allowed;
    const items = state.items.map(({ rest, frame, bottom }) => this.#item(rest && this.#clamped(rest), frame, bottom));
    const key = items.map(({ id }) => id).join();
    let found = this.#sets.get(key);
    if (!found) {
      const bits = new Int32Array(this.#words);
      const visit = new Visit();
      for (const item of items) yield* this.#add(bits, item, visit);
      // Another text may have found it meanwhile.
      found = this.#sets.get(key) ?? this.#compact(bits);
      this.#sets.set(key, found);
    }
    return (state.allowed = found);
  }

  /** Adds the tokens that may follow an item. */
  *#add(bits: Int32Array, { rest, frame, bottom }: Item, visit: Visit): Steps<void> {
    if (!rest) return;
    const { tokens, ends, pops } = yield* this.#ownTokens(rest, visit);
    if ("bits" in tokens) for (const [i, word] of tokens.bits.entries()) bits[i]! |= word;
    else for (const id of tokens.ids) bits[id >> 5]! |= 1 << (id & 31);
    if (!frame) return;
    const caller = this.#item(frame.rest, frame.parent, bottom);
    if (ends) yield* this.#add(bits, caller, visit);
    const state = this.#stateOf([caller]);
    const { ends: after, depths } = this.trie;
    for (const [i, node] of pops.entries()) {
      yield* this.#walk(state, { first: node + 1, end: after[node]!, depth: depths[node]! }, bits, null, visit);
      if (i % 256 === 0) yield;
    }
  }

  *#ownTokens(rest: Rest, visit: Visit): Steps<OwnTokens> {
    if (rest.own) return rest.own;
    const bits = new Int32Array(this.#words);
    const pops: number[] = [];
    const state = this.#stateOf([this.#item(rest, null, "open")]);
    yield* this.#walk(state, { first: 0, end: this.trie.bytes.length, depth: 0 }, bits, pops, visit);
    return (rest.own = { tokens: this.#compact(bits), ends: state.open, pops: Int32Array.from(pops) });
  }

  /** Walks over the nodes from `first` to `end`, which are below one of `depth` bytes, as far as there are states. */
  *#walk(
    start: State,
    { first, end, depth }: { first: number; end: number; depth: number },
    bits: Int32Array,
    pops: number[] | null,
    visit: Visit,
  ): Steps<void> {
    const { bytes, depths, ends, firsts, ids } = this.trie;
    const path: State[] = [];
    path[depth] = start;
    let made = this.#states.length;
    let pause = first + nodesBetweenPauses;
    for (let node = first; node < end;) {
      const level = depths[node]!;
      const from = path[level - 1]!;
      const one = bytes[node]!;
      const next = from.next[one]! || this.#next(from, one);
      if (this.#states.length > made + statesBetweenPauses || node > pause) {
        yield;
        made = this.#states.length;
        pause = node + nodesBetweenPauses;
      }
      if (next === dead) {
        node = ends[node]!;
        continue;
      }
      const to = this.#states[next]!;
      visit.add(to);
      path[level] = to;
      for (let i = firsts[node]!; i < firsts[node + 1]!; i++) bits[ids[i]! >> 5]! |= 1 << (ids[i]! & 31);
      if (to.open) pops?.push(node);
      node++;
    }
  }

  #next(state: State, one: number): number {
    const known = state.next[one]!;
    if (known !== unknown) return known;
    const items = state.edges
      .filter(({ low, high }) => low <= one && one <= high)
      .map(({ tail, frame, bottom }) => this.#item(tail, frame, bottom));
    return (state.next[one] = items.length === 0 ? dead : this.#stateOf(items).id);
  }

  #stateOf(items: readonly Item[]): State {
    const sorted = [...new Set(items)].sort((a, b) => a.id - b.id);
    const key = sorted.map(({ id }) => id).join();
    const known = this.#known.get(key);
    if (known) return known;
    const state = this.#state(sorted);
    this.#close(state);
    this.#states.push(state);
    this.#known.set(key, state);
    this.#bytes += 2 * key.length + 16 * (sorted.length + state.edges.length);
    return state;
  }

  #state(items: readonly Item[]): State {
    return {
      ...{ id: this.#states.length, items, accepts: false, open: false },
      ...{ edges: [], next: new Int32Array(256), allowed: null },
    };
  }

  /** Finds what the items of a state can begin with. */
  #close(state: State): void {
    const edges: Edge[] = [];
    const seen = new Set<Item>();
    // A list instead of recursion, because rules may call each other thousands of times before the first byte.
    const pending: Place[] = [];
    const visit = (rest: Rest | null, frame: Frame | null, bottom: Bottom): void => {
      if (rest) pending.push({ head: rest.head, tail: rest.tail, frame, bottom });
      else if (frame) visit(frame.rest, frame.parent, bottom);
      else if (bottom === "root") state.accepts = true;
      else state.open = true;
    };
    for (const { rest, frame, bottom } of state.items) visit(rest, frame, bottom);
    for (let place = pending.pop(); place; place = pending.pop()) {
      const { head, tail, frame, bottom } = place;
      if (edges.length > mostEdges)
        throw new HeedError(
          "ERR_ARGUMENT",
          `format: expected at most ${mostEdges} ways in which a text can go on at one place, got more`,
        );
      if (head.kind === "byte") edges.push({ low: head.low, high: head.high, tail, frame, bottom });
      else if (head.kind === "choice") for (const option of head.options) pending.push({ ...place, head: option });
      else if (head.kind === "sequence") {
        const { parts } = head;
        let after = tail;
        for (let i = parts.length - 1; i >= 0; i--) after = this.#push(parts[i]!, after);
        visit(after, frame, bottom);
      } else {
        // Only repetitions and rules can come back to themselves.
        const item = this.#item(this.#push(head, tail), frame, bottom);
        if (seen.has(item)) continue;
        seen.add(item);
        if (head.kind === "rule") {
          // A call at the end of a rule needs no frame.
          const caller = tail ? this.#frame(tail, frame, bottom) : frame;
          pending.push({ head: head.body, tail: null, frame: caller, bottom });
          continue;
        }
        if (head.least === 0) visit(tail, frame, bottom);
        if (head.most > 0) pending.push({ head: head.of, tail: this.#push(this.#fewer(head), tail), frame, bottom });
      }
    }
    state.edges = edges;
  }

  #fewer({ of, least, most }: Repeat): Repeat {
    return this.#repeat(of, Math.max(0, least - 1), most - 1);
  }

  #repeat(of: Expression, least: number, most: number): Repeat {
    let known = this.#repeats.get(of);
    if (!known) this.#repeats.set(of, (known = new Map<string, Repeat>()));
    const key = `${least},${most}`;
    let found = known.get(key);
    if (!found) known.set(key, (found = { kind: "repeat", of, least, most }));
    return found;
  }

  /**
   * Returns the same with numbers of repetitions that no token can tell apart, so that the tokens of a long text with a
   * limit are found once.
   */
  #clamped(rest: Rest): Rest {
    return this.#ownRest(rest, (head) => this.#fewRepeats(head));
  }

  #fewRepeats(head: Expression): Expression {
    if (head.kind !== "repeat" || head.of.kind === "repeat") return head;
    const { longest } = this.trie;
    return this.#repeat(head.of, Math.min(head.least, longest + 1), head.most > longest ? Infinity : head.most);
  }

  #push(head: Expression, tail: Rest | null): Rest {
    const known = tail ? (tail.longer ??= new Map<Expression, Rest>()) : this.#roots;
    let found = known.get(head);
    if (!found) known.set(head, (found = { id: this.#count++, head, tail, longer: null, own: null }));
    return found;
  }

  /** Returns what is left of a rule, also one of another automaton, as that of this one, with its heads changed. */
  #ownRest(rest: Rest, changed = (head: Expression): Expression => head): Rest {
    const heads: Expression[] = [];
    for (let one: Rest | null = rest; one; one = one.tail) heads.push(one.head);
    return heads.reduceRight<Rest | null>((after, head) => this.#push(changed(head), after), null)!;
  }

  #ownFrame(frame: Frame, bottom: Bottom): Frame {
    const frames: Frame[] = [];
    for (let one: Frame | null = frame; one; one = one.parent) frames.push(one);
    return frames.reduceRight<Frame | null>(
      (parent, { rest }) => this.#frame(this.#ownRest(rest), parent, bottom),
      null,
    )!;
  }

  #frame(rest: Rest, parent: Frame | null, bottom: Bottom): Frame {
    const key = `${rest.id},${parent ? parent.id : bottom}`;
    let found = this.#frames.get(key);
    if (!found) this.#frames.set(key, (found = { id: this.#count++, rest, parent }));
    return found;
  }

  #item(rest: Rest | null, frame: Frame | null, bottom: Bottom): Item {
    // What comes after the end of a rule is left of its caller.
    if (!rest && frame) return this.#item(frame.rest, frame.parent, bottom);
    const key = `${rest ? rest.id : ""},${frame ? frame.id : bottom}`;
    let found = this.#items.get(key);
    if (!found) this.#items.set(key, (found = { id: this.#count++, rest, frame, bottom }));
    return found;
  }

  /** Returns the set in the form that needs less memory. */
  #compact(bits: Int32Array): TokenSet {
    let count = 0;
    for (const word of bits) for (let rest = word; rest !== 0; rest &= rest - 1) count++;
    if (count >= bits.length) {
      this.#bytes += bits.byteLength;
      return { bits };
    }
    const ids = new Int32Array(count);
    let at = 0;
    for (const [i, word] of bits.entries())
      for (let rest = word; rest !== 0; rest &= rest - 1) ids[at++] = 32 * i + 31 - Math.clz32(rest & -rest);
    this.#bytes += ids.byteLength;
    return { ids };
  }
}
