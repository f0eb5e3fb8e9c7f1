/** An encoder–decoder in float64 for one sequence, token by token: written from the equations, without heed's code. */
import type { EncoderDecoderConfig } from "../../lib/models/encoder-decoder-config.js";
import { byActivation } from "../support/functions.js";
import { dot } from "../support/nd.js";

type Weights = Record<string, ArrayLike<number>>;
type Vector = number[];
type Linear = (name: string, x: Vector) => Vector;

const plus = (a: Vector, b: Vector): Vector => a.map((value, i) => value + b[i]!);
const sum = (a: Vector): number => a.reduce((total, value) => total + value, 0);

/** Returns the sinusoids of a position in each layout. */
export function sinusoids(position: number, width: number, options: EncoderDecoderConfig["sinusoids"] = {}): Vector {
  const half = width / 2;
  const t = position + (options.first ?? 0);
  const angle = (i: number): number => t / 10_000 ** (i / (options.inclusive ? half - 1 : half));
  return options.layout === "halves"
    ? Array.from({ length: width }, (_, c) => (c < half ? Math.sin(angle(c)) : Math.cos(angle(c - half))))
    : Array.from({ length: width }, (_, c) => (c % 2 ? Math.cos : Math.sin)(angle(Math.floor(c / 2))));
}

/** Returns the logits [T][V] after each token of the target. */
export function encoderDecoderReference(
  config: Required<EncoderDecoderConfig>,
  weights: Weights,
  source: readonly number[],
  target: readonly number[],
): Vector[] {
  const { width, heads, eps, norm: placement, scaleEmbeddings } = config;
  const size = width / heads;
  const activate = byActivation[config.activation];
  const linear: Linear = (name, x) => {
    const [weight, bias] = [weights[`${name}.weight`]!, weights[`${name}.bias`]];
    return Array.from({ length: weight.length / x.length }, (_, o) => {
      const row = x.map((value, i) => value * weight[o * x.length + i]!);
      return sum(row) + (bias?.[o] ?? 0);
    });
  };
  const norm = (name: string, x: Vector): Vector => {
    const mean = sum(x) / width;
    const variance = sum(x.map((value) => (value - mean) ** 2)) / width;
    return x.map(
      (value, i) =>
        ((value - mean) / Math.sqrt(variance + eps)) * weights[`${name}.weight`]![i]! +
        (weights[`${name}.bias`]?.[i] ?? 0),
    );
  };
  const embed = (table: string, side: string, ids: readonly number[]): Vector[] =>
    ids.map((id, t) => {
      const words = Array.from({ length: width }, (_, c) => weights[`${table}.weight`]![id * width + c]!);
      const scaled = scaleEmbeddings ? words.map((value) => value * Math.sqrt(width)) : words;
      if (config.positions === "none") return scaled;
      const learned = weights[`${side}.positions.weight`];
      const position =
        config.positions === "learned"
          ? Array.from({ length: width }, (_, c) => learned![t * width + c]!)
          : sinusoids(t, width, config.sinusoids);
      return plus(scaled, position);
    });
  /** Attends with one query to the keys and values of all heads side by side. */
  const attend = (q: Vector, keys: Vector[], values: Vector[]): Vector =>
    Array.from({ length: heads }, (_, h) => {
      const cut = (x: Vector): Vector => x.slice(h * size, (h + 1) * size);
      const scores = keys.map((k) => dot(cut(q), cut(k)) / Math.sqrt(size));
      const largest = Math.max(...scores);
      const shares = scores.map((score) => Math.exp(score - largest));
      const total = sum(shares);
      return Array.from({ length: size }, (_, d) => sum(shares.map((w, s) => (w / total) * cut(values[s]!)[d]!)));
    }).flat();
  const part = (name: string, x: Vector[], body: (inputs: Vector[]) => Vector[]): Vector[] =>
    placement === "pre"
      ? body(x.map((token) => norm(name, token))).map((out, t) => plus(x[t]!, out))
      : body(x).map((out, t) => norm(name, plus(x[t]!, out)));
  const self = (at: string, causal: boolean) => (inputs: Vector[]) => {
    const qkv = inputs.map((token) => linear(`${at}.attn.c_attn`, token));
    const [q, k, v] = [0, 1, 2].map((i) => qkv.map((token) => token.slice(i * width, (i + 1) * width)));
    return q!.map((query, t) => {
      const seen = causal ? t + 1 : inputs.length;
      return linear(`${at}.attn.c_proj`, attend(query, k!.slice(0, seen), v!.slice(0, seen)));
    });
  };
  const feed = (at: string) => (inputs: Vector[]) =>
    inputs.map((token) => linear(`${at}.mlp.c_proj`, linear(`${at}.mlp.c_fc`, token).map(activate)));
  const finish = (side: string, x: Vector[]): Vector[] =>
    config.finalNorms ? x.map((token) => norm(`${side}.ln_f`, token)) : x;

  let x = embed("source", "encoder", source);
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `encoder.h.${layer}`;
    x = part(`${at}.ln_1`, x, self(at, false));
    x = part(`${at}.ln_2`, x, feed(at));
  }
  const encoded = finish("encoder", x);

  let y = embed(config.shared ? "source" : "target", "decoder", target);
  for (let layer = 0; layer < config.decoderLayers; layer++) {
    const at = `decoder.h.${layer}`;
    y = part(`${at}.ln_1`, y, self(at, true));
    const kv = encoded.map((token) => linear(`${at}.cross.c_attn`, token));
    const [k, v] = [kv.map((token) => token.slice(0, width)), kv.map((token) => token.slice(width))];
    y = part(`${at}.ln_cross`, y, (inputs) =>
      inputs.map((token) => linear(`${at}.cross.c_proj`, attend(linear(`${at}.cross.q_attn`, token), k, v))),
    );
    y = part(`${at}.ln_2`, y, feed(at));
  }
  const head = config.tied ? (config.shared ? "source" : "target") : "head";
  const bias = weights.logits_bias;
  return finish("decoder", y).map((token) => {
    const logits = linear(head, token);
    return bias ? plus(logits, Array.from(bias)) : logits;
  });
}
