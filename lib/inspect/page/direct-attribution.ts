// Direct logit attribution at every position at once. The logit of a token is linear in the residual stream if the scale of
// the last norm is fixed, so that one backward pass, without a gradient of that scale, gives the direction of the stream
// that raises the logit at each position. A part contributes the product of what it adds with that direction.
// `logitAttribution` computes the same for one position, through the logits of the whole vocabulary.
import { detach, noGrad } from "../../core/autograd.js";
import { tensor } from "../../core/creation.js";
import { mul } from "../../ops/binary.js";
import { embedding } from "../../ops/embedding.js";
import { sum } from "../../ops/reduce.js";
import { reshape } from "../../ops/views.js";
import { keep, scope } from "../../core/scope.js";
import type { FloatTensor, IntTensor } from "../../core/tensor.js";
import { runWithGradients } from "../gradients.js";
import type { DecoderHookName, InspectedDecoder } from "../hook-names.js";
import { type HooksOf, run } from "../run.js";
import type { Component } from "./data.js";

/** Contributions of one part at every position. */
export interface Contribution {
  component: Component;
  values: Float32Array;
}

/** Resolves to what each part adds to the logit of a target at each position, and the logits. */
export async function directAttribution(
  model: InspectedDecoder,
  ids: IntTensor,
  targets: Int32Array,
): Promise<{ contributions: Contribution[]; logits: Float32Array }> {
  const { layers } = model.config;
  const last: DecoderHookName = `blocks.${layers - 1}.hook_resid_post`;
  using at = tensor(
    targets.map((id, t) => t * model.config.vocabularySize + id),
    [targets.length],
    { device: model.device },
  );
  const logitsAt = (logits: FloatTensor): FloatTensor => scope(() => embedding(at, reshape(logits, [-1, 1])));
  using found = runWithGradients(model, ids, (logits) => sum(logitsAt(logits).to("f32")), {
    names: last,
    hooks: { "ln_final.hook_scale": (scale) => detach(scale) },
  });
  const direction = found.gradients.get(last); // [1, T, C]
  const readings = new Map<string, FloatTensor>();
  /** Returns a hook that keeps the products of a value [1, T, …, C] with the direction, [1, T, …]. */
  const reading =
    (name: string, factor = 1) =>
    (value: FloatTensor): undefined => {
      const spread = value.shape.length === 4 ? reshape(direction, [1, targets.length, 1, -1]) : direction;
      const product = noGrad(() => scope(() => mul(sum(mul(value, spread), { axes: [-1] }).to("f32"), factor)));
      readings.set(name, keep(product));
    };
  const hooks: { -readonly [Name in keyof HooksOf<InspectedDecoder>]: HooksOf<InspectedDecoder>[Name] } = {
    hook_embed: reading("embed"),
  };
  if (model.addsPositions) hooks.hook_pos_embed = reading("pos_embed");
  for (const [layer, { parts }] of model.blocks.entries()) {
    hooks[`blocks.${layer}.attn.hook_result`] = reading(`${layer}.heads`, parts.residualScale);
    hooks[`blocks.${layer}.hook_attn_out`] = reading(`${layer}.attn`);
    hooks[`blocks.${layer}.hook_mlp_out`] = reading(`${layer}.mlp`);
  }
  hooks[last] = reading("stream");
  using output = noGrad(() => scope(() => logitsAt(run(model, ids, { hooks }).to("f32"))));
  const logits = await output.data();
  const read = async (name: string): Promise<Float32Array> => {
    using value = readings.get(name)!;
    return await value.data();
  };
  const whole = (name: string, values: Float32Array, layer: number | null = null): Contribution => ({
    component: { name, attention: layer === null ? null : 0, layer, head: null },
    values,
  });
  const contributions = [whole("token embedding", await read("embed"))];
  if (readings.has("pos_embed")) contributions.push(whole("position embedding", await read("pos_embed")));
  for (let layer = 0; layer < layers; layer++) {
    const heads = await read(`${layer}.heads`); // [T, H]
    const count = heads.length / targets.length;
    const rest = await read(`${layer}.attn`);
    for (let head = 0; head < count; head++) {
      const values = Float32Array.from(targets, (_, t) => heads[t * count + head]!);
      contributions.push({ component: { name: `layer ${layer}, head ${head}`, attention: 0, layer, head }, values });
      for (const [t, value] of values.entries()) rest[t]! -= value;
    }
    if (rest.some((value) => Math.abs(value) > 1e-4))
      contributions.push(whole(`layer ${layer}, attention's bias`, rest));
    contributions.push(whole(`layer ${layer}, MLP`, await read(`${layer}.mlp`), layer));
  }
  const stream = await read("stream");
  const constant = logits.map((logit, t) => logit - stream[t]!);
  if (constant.some((value) => Math.abs(value) > 1e-4)) contributions.push(whole("last norm's bias", constant));
  return { contributions, logits };
}
