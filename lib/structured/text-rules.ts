// The texts of a language as rules: one for each of its states, and for each number of characters that may follow at most.
import { largest } from "../util/largest.js";
import type { Characters } from "./characters.js";
import { choiceOf, empty, type Expression, lateRule, repeat, rule, type Rule, sequence } from "./expression.js";
import { isRepetition, type Language } from "./language.js";
import { findRuns, type PlainRun, type RunState } from "./plain-runs.js";
import { plainCounts } from "./plain-characters.js";
import type { Steps } from "../util/turns.js";
import { isPauseDue, spend } from "./work.js";

/** Characters of a step: how they are written, and how many of each set of plain ones are among them. */
interface StepCharacters {
  readonly expression: Expression;
  readonly plain: readonly number[];
}

/** A state of a text, as its rules need it: without the languages from which it was found. */
interface TextState extends RunState {
  readonly nullable: boolean;
  readonly steps: { readonly of: Expression; readonly plain: readonly number[]; readonly after: TextState }[];
  /** Character that the state repeats, and how often; null if it does something else. */
  repeats: {
    readonly of: Expression;
    readonly plain: readonly number[];
    readonly least: number;
    readonly most: number;
  } | null;
  /** Rules by the number of characters that are left. */
  readonly rules: Map<number, Rule>;
  /** Rule without a limit; null until it is asked for. */
  unlimited: Rule | null;
}

/** Most rules of a state that are kept; others are made again. */
const mostRules = 256;

/** Returns the texts of a state with at most `most` characters; `missing` has the states from which a text can end. */
export function* rulesOf(
  root: Language,
  missing: ReadonlyMap<Language, number>,
  character: (of: Characters) => Steps<Expression>,
  most: number,
): Steps<Expression> {
  const sets = new Map<string, StepCharacters>();
  const made = new Map<Language, TextState>();
  for (const [state, count] of missing)
    made.set(state, {
      nullable: state.nullable,
      missing: count,
      steps: [],
      repeats: null,
      runs: [],
      rules: new Map<number, Rule>(),
      unlimited: null,
    });
  function* setOf(of: Characters): Steps<StepCharacters> {
    const key = of.join();
    const set = sets.get(key) ?? { expression: yield* character(of), plain: plainCounts(of) };
    sets.set(key, set);
    return set;
  }
  for (const [state, own] of made) {
    if (isRepetition(state)) {
      const { expression, plain } = yield* setOf(state.parts[0]!.of);
      own.repeats = { of: expression, plain, least: state.least, most: state.most };
      continue;
    }
    for (const { of, after } of state.steps!) {
      spend(0, 1);
      if (isPauseDue()) yield;
      const to = made.get(after);
      if (!to) continue;
      const { expression, plain } = yield* setOf(of);
      own.steps.push({ of: expression, plain, after: to });
    }
  }
  yield* findRuns([...made.values()]);
  const mostMissing = largest([...missing.values()]);
  const ruleOf = (state: TextState, left: number): Expression => {
    const { repeats } = state;
    if (repeats) return repeat(repeats.of, repeats.least, Math.min(repeats.most, left));
    if (left === Infinity) return unlimitedOf(state);
    let found = state.rules.get(left);
    if (found) return found;
    // Each state is another one for each number of characters that are left, and few of them are needed.
    const plain = state.runs.map((run) => lengthOf(run, left));
    // While more characters are left than any state needs to its end, a limit leaves nothing out.
    const unlimited = { characters: left - mostMissing, rule: () => unlimitedOf(state) };
    found = lateRule("a text", { nullable: state.nullable, plain, most: left, unlimited }, () => bodyOf(state, left));
    if (state.rules.size >= mostRules) state.rules.clear();
    state.rules.set(left, found);
    return found;
  };
  const unlimitedOf = (state: TextState): Rule => {
    const plain = state.runs.map(({ length }) => length);
    return (state.unlimited ??= lateRule("a text", { nullable: state.nullable, plain }, () => bodyOf(state, Infinity)));
  };
  const bodyOf = ({ nullable, steps }: TextState, left: number): Expression => {
    const possible = steps.filter(({ after }) => after.missing < left);
    const options = possible.map(({ of, after }) => sequence(of, ruleOf(after, left - 1)));
    return choiceOf([...(nullable ? [empty] : []), ...options]);
  };
  if (most < Infinity) return ruleOf(made.get(root)!, most);
  const rules = new Map(Array.from(made.values(), (state) => [state, rule("a text", empty)]));
  for (const [state, own] of rules) {
    own.plain = state.runs.map((run) => lengthOf(run, most));
    state.rules.set(most, own);
  }
  for (const [state, own] of rules) {
    spend(1 + state.steps.length);
    if (isPauseDue()) yield;
    own.body = bodyOf(state, most);
  }
  return ruleOf(made.get(root)!, most);
}

/** Returns the number of plain characters that may follow, whichever they are, if `left` characters may follow at most. */
function lengthOf({ length, missing }: PlainRun, left: number): number {
  return Math.max(0, Math.min(length, left - missing));
}
