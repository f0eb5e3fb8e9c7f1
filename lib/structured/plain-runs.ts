// How many plain characters may follow at each state of a text, whichever they are; see plain-characters.ts.
import { append } from "../util/append.js";
import type { Steps } from "../util/turns.js";
import { notPlain, plainTotals } from "./plain-characters.js";
import { isPauseDue, spend } from "./work.js";

/** Plain characters of a set that may follow. */
export interface PlainRun {
  /** Number of characters; `longestRun` stands for more of them. */
  readonly length: number;
  /** Largest number of characters that are missing from a text after any of them. */
  readonly missing: number;
}

/** A state of a text. */
export interface RunState {
  /** Number of characters after which a text can end, at the least. */
  readonly missing: number;
  /** Characters that may follow: how many of each set of plain ones they are, and the state after them. */
  readonly steps: readonly { readonly plain: readonly number[]; readonly after: RunState }[];
  /** Character that the state repeats instead; null if it has steps. */
  readonly repeats: { readonly plain: readonly number[]; readonly most: number } | null;
  /** Plain characters that may follow, of each set. */
  runs: readonly PlainRun[];
}

const longestRun = notPlain - 1;

/** Finds the runs of all states. */
export function* findRuns(states: readonly RunState[]): Steps<void> {
  const runs: (readonly PlainRun[])[] = [];
  for (const set of plainTotals.keys()) runs.push(yield* runsOf(states, set));
  for (const [i, state] of states.entries()) state.runs = runs.map((run) => run[i]!);
}

/** Returns the runs of all states for one of the sets. */
function* runsOf(states: readonly RunState[], set: number): Steps<PlainRun[]> {
  const total = plainTotals[set]!;
  /** States whose characters of the set lead to a state. */
  const before = new Map<RunState, RunState[]>();
  const byLength: RunState[][] = [[]];
  for (const state of states) {
    const { steps, repeats } = state;
    spend(0, 1 + steps.length / 4);
    if (isPauseDue()) yield;
    const possible = repeats ? repeats.plain[set]! : steps.reduce((sum, { plain }) => sum + plain[set]!, 0);
    if (possible < total) byLength[0]!.push(state);
    else if (repeats) (byLength[Math.min(repeats.most, longestRun)] ??= []).push(state);
    else
      for (const { plain, after } of steps) {
        if (plain[set] === 0) continue;
        const others = before.get(after);
        if (others) others.push(state);
        else before.set(after, [state]);
      }
  }
  // The run of a state is one longer than the shortest one of those after it.
  const lengths = new Map<RunState, number>();
  for (let length = 0; length < longestRun; length++)
    for (const state of byLength[length] ?? []) {
      if (lengths.has(state)) continue;
      lengths.set(state, length);
      spend(0, 1);
      if (isPauseDue()) yield;
      for (const one of before.get(state) ?? []) (byLength[length + 1] ??= []).push(one);
    }
  const missing = new Map<RunState, number>();
  for (const last of [...states].sort((a, b) => b.missing - a.missing)) {
    const pending = [last];
    for (let state = pending.pop(); state; state = pending.pop()) {
      if (missing.has(state)) continue;
      missing.set(state, last.missing);
      spend(0, 1);
      append(pending, before.get(state) ?? []);
    }
    if (isPauseDue()) yield;
  }
  return states.map((state) => ({ length: lengths.get(state) ?? longestRun, missing: missing.get(state)! }));
}
