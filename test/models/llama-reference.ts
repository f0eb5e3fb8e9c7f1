/** A Llama from its equations, in float64, one token and one head after the other. */
import type { LlamaConfig } from "../../lib/models/llama-config.js";
import { byActivation } from "../support/functions.js";
import { dot } from "../support/nd.js";

type Vector = number[];

const plus = (a: Vector, b: ArrayLike<number>) => a.map((x, i) => x + b[i]!);

/** Returns the logits of every position, one after the other. */
export function llamaReference(
  config: Required<LlamaConfig>,
  weights: Readonly<Record<string, Float32Array>>,
  ids: readonly number[],
): number[] {
  const { width, heads, kvHeads, headSize, eps, layers, rotarySize, rotaryBase, interleaved } = config;

  const linear = (name: string, x: Vector): Vector => {
    const weight = weights[`${name}.weight`]!;
    const out = Array.from({ length: weight.length / x.length }, (_, o) =>
      dot(weight.subarray(o * x.length, (o + 1) * x.length), x),
    );
    const bias = weights[`${name}.bias`];
    return bias ? plus(out, bias) : out;
  };
  const norm = (name: string, x: Vector): Vector => {
    const root = Math.sqrt(dot(x, x) / x.length + eps);
    return x.map((value, i) => (value / root) * weights[`${name}.weight`]![i]!);
  };
  const split = (x: Vector): Vector[] =>
    Array.from({ length: x.length / headSize }, (_, h) => x.slice(h * headSize, (h + 1) * headSize));
  const turn = (x: Vector, position: number): Vector => {
    const out = [...x];
    for (let i = 0; i < rotarySize / 2; i++) {
      const [a, b] = interleaved ? [2 * i, 2 * i + 1] : [i, i + rotarySize / 2];
      const angle = position * rotaryBase ** ((-2 * i) / rotarySize);
      out[a] = x[a]! * Math.cos(angle) - x[b]! * Math.sin(angle);
      out[b] = x[a]! * Math.sin(angle) + x[b]! * Math.cos(angle);
    }
    return out;
  };
  const activate = byActivation[config.activation];

  let x = ids.map((id) => Array.from(weights["model.embed_tokens.weight"]!.subarray(id * width, (id + 1) * width)));
  for (let layer = 0; layer < layers; layer++) {
    const window = config.layerTypes?.[layer] === "full" ? 0 : config.window;
    const at = `model.layers.${layer}`;
    const inputs = x.map((token) => norm(`${at}.input_layernorm`, token));
    const headsOf = (name: string, normName: string | null) =>
      inputs.map((token, t) =>
        split(linear(`${at}.self_attn.${name}`, token)).map((head) => {
          if (normName === null) return head;
          return turn(config.qkNorm ? norm(`${at}.self_attn.${normName}`, head) : head, t);
        }),
      );
    const [q, k, v] = [headsOf("q_proj", "q_norm"), headsOf("k_proj", "k_norm"), headsOf("v_proj", null)];
    x = x.map((token, t) => {
      const attended = Array.from({ length: heads }, (_, h) => {
        const shared = Math.floor(h / (heads / kvHeads));
        const from = window > 0 ? Math.max(0, t - window + 1) : 0;
        const seen = Array.from({ length: t + 1 - from }, (_, i) => from + i);
        const scores = seen.map((s) => Math.exp(dot(q[t]![h]!, k[s]![shared]!) / Math.sqrt(headSize)));
        const total = scores.reduce((sum, score) => sum + score, 0);
        return Array.from({ length: headSize }, (_, d) =>
          seen.reduce((sum, s, i) => sum + (scores[i]! / total) * v[s]![shared]![d]!, 0),
        );
      }).flat();
      const h = plus(token, linear(`${at}.self_attn.o_proj`, attended));
      const fed = norm(`${at}.post_attention_layernorm`, h);
      const up = linear(`${at}.mlp.up_proj`, fed);
      const hidden = linear(`${at}.mlp.gate_proj`, fed).map((gate, i) => activate(gate) * up[i]!);
      return plus(h, linear(`${at}.mlp.down_proj`, hidden));
    });
  }
  const head = config.tied ? "model.embed_tokens" : "lm_head";
  return x.flatMap((token) => linear(head, norm("model.norm", token)));
}
