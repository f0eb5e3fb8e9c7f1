import { noGrad } from "../../core/autograd.js";
import { scope } from "../../core/scope.js";
import { replaceWith } from "../edits.js";
import type { InspectedModel } from "../hook-names.js";
import { type HooksOf, type InputOf, run } from "../run.js";
import { componentOf, type Part, rounded } from "./components.js";
import type { EffectData } from "./data.js";
import type { Goal } from "./goal.js";
import { valueName } from "./gradient-attribution.js";

/** Resolves to how the scores change if one part at a time adds nothing. It takes a pass of the model for each part. */
export async function ablationsOf(
  model: InspectedModel,
  input: InputOf<InspectedModel>,
  goal: Goal,
  { parts, clean, onPass }: { parts: readonly Part[]; clean: Float32Array; onPass: () => void },
): Promise<EffectData> {
  const { unit, meaning, columns, sequence } = goal;
  const changes = new Float32Array(parts.length * columns.length);
  for (const [i, { stack, layer, head }] of parts.entries()) {
    const edit = replaceWith(0, head === null ? {} : { heads: [head] });
    const hooks = { [valueName(stack, layer, head !== null)]: edit } as HooksOf<InspectedModel>;
    using scores = noGrad(() => scope(() => goal.scores(run<InspectedModel>(model, input, { hooks }))));
    for (const [column, score] of (await scores.data()).entries())
      changes[i * columns.length + column] = score - clean[column]!;
    onPass();
  }
  return {
    note: `Each number is the change of ${meaning} if the part's output is replaced by zeros.`,
    ...{ unit, columns, sequence, components: parts.map(componentOf), totals: [...clean] },
    values: rounded(changes),
  };
}
