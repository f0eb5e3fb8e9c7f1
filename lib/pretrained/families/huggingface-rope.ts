// Reads and writes rotary positions in config.json: `rope_theta`, `rope_scaling` and `partial_rotary_factor`, or all of
// them in `rope_parameters`.
import { describe, HeedError } from "../../util/errors.js";
import { type RotaryScaling, stretchedBase } from "../../ops/rotary-table.js";
import { booleanOf, numberOf, positiveInteger } from "./huggingface-config.js";
import type { LlamaConfig } from "../../models/llama-config.js";

type Entries = Readonly<Record<string, unknown>>;
type Rotary = Required<Pick<LlamaConfig, "rotaryBase" | "rotarySize" | "rotaryScaling">>;

/**
 * Returns the rotary positions in a configuration, for heads of size `headSize`.
 *
 * @throws ERR_FORMAT if heed does not support an entry.
 */
export function rotaryOf(config: Entries, headSize: number, contextLength: number): Rotary {
  const rope = entriesOf(config);
  const factor = numberOf({ ...rope, ...given(config, "partial_rotary_factor") }, "partial_rotary_factor", 1);
  return {
    rotaryBase: numberOf({ ...given(config, "rope_theta"), ...rope }, "rope_theta", 10_000),
    rotarySize: Math.trunc(headSize * factor),
    rotaryScaling: scalingOf({ ...rope, ...given(config, "original_max_position_embeddings") }, contextLength),
  };
}

/** Returns `rope_scaling`, or `rope_parameters` if the first is missing or empty. */
function entriesOf(config: Entries): Entries {
  for (const name of ["rope_scaling", "rope_parameters"]) {
    const entries = config[name] ?? {};
    if (typeof entries !== "object" || Array.isArray(entries))
      throw new HeedError("ERR_FORMAT", `config: expected ${name} to be an object, got ${describe(entries)}`);
    const kinds = Object.entries(entries).filter(([, value]) => typeof value === "object" && !Array.isArray(value));
    const kind = kinds.find(([, value]) => value !== null);
    if (kind)
      throw new HeedError(
        "ERR_FORMAT",
        `config: expected the same ${name} for all layers, got one for ${kind[0]} only`,
      );
    // An entry that is null counts as missing.
    const said = Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== null));
    if (Object.keys(said).length > 0) return said;
  }
  return {};
}

function given(config: Entries, name: string): Entries {
  return config[name] === undefined || config[name] === null ? {} : { [name]: config[name] };
}

function scalingOf(rope: Entries, contextLength: number): RotaryScaling | null {
  const type: unknown = rope.rope_type ?? rope.type ?? "default";
  const original = (): number =>
    rope.original_max_position_embeddings == null
      ? contextLength
      : positiveInteger(rope, "original_max_position_embeddings");
  switch (type) {
    case "default":
      return null;
    case "linear":
      return { type: "linear", factor: numberOf(rope, "factor", NaN) };
    case "dynamic":
      // Hugging Face uses the model's own context length here, whatever the original one was.
      return { type: "dynamic", factor: numberOf(rope, "factor", NaN), originalLength: contextLength };
    case "yarn":
      return yarn(rope, original(), contextLength);
    case "llama3":
      return {
        type: "llama3",
        factor: numberOf(rope, "factor", NaN),
        originalLength: original(),
        lowFrequencyFactor: numberOf(rope, "low_freq_factor", 1),
        highFrequencyFactor: numberOf(rope, "high_freq_factor", 4),
      };
    case "longrope":
      return longrope(rope, original(), contextLength);
    default:
      throw new HeedError(
        "ERR_FORMAT",
        `config: expected rope_scaling of type default, linear, dynamic, yarn, llama3 or longrope, got ${describe(type)}`,
      );
  }
}

function yarn(rope: Entries, originalLength: number, contextLength: number): RotaryScaling {
  const factor = numberOf(rope, "factor", contextLength / originalLength);
  const number = (name: string): number | undefined => (rope[name] == null ? undefined : numberOf(rope, name, NaN));
  // 0 stands for the default value.
  const beta = (name: string): number | undefined => (rope[name] === 0 ? undefined : number(name));
  const [betaFast, betaSlow] = [beta("beta_fast"), beta("beta_slow")];
  const attentionFactor = number("attention_factor") ?? scaleRatio(factor, number("mscale"), number("mscale_all_dim"));
  const truncate = booleanOf(rope, "truncate", true) ? undefined : false;
  return { type: "yarn", factor, originalLength, ...defined({ betaFast, betaSlow, attentionFactor, truncate }) };
}

/**
 * Returns the factor of cosines and sines in DeepSeek's files: the factor from `mscale` divided by that from
 * `mscale_all_dim`.
 */
function scaleRatio(factor: number, scale = 0, all = 0): number | undefined {
  const scaled = (by: number): number => 0.1 * by * Math.log(Math.max(factor, 1)) + 1;
  return scale && all ? scaled(scale) / scaled(all) : undefined;
}

/**
 * Returns the scaling of LongRoPE, which has one list of factors for short texts and another for long ones. One table
 * of positions can hold both only if they are equal.
 */
function longrope(rope: Entries, originalLength: number, contextLength: number): RotaryScaling {
  const { short_factor: shortFactors, long_factor: longFactors } = rope;
  const lists = Array.isArray(shortFactors) && Array.isArray(longFactors);
  const same =
    lists && (contextLength <= originalLength || longFactors.every((factor, i) => factor === shortFactors[i]));
  const factor = numberOf(rope, "factor", contextLength / originalLength);
  const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalLength));
  if (!same || numberOf(rope, "attention_factor", usual) !== 1)
    throw new HeedError(
      "ERR_FORMAT",
      "config: expected longrope with equal short_factor and long_factor and attention_factor 1, got other values",
    );
  return { type: "factors", factors: shortFactors as number[] };
}

/** Returns the entries of config.json for these rotary positions. */
export function toRotaryEntries(config: Required<LlamaConfig>): Record<string, unknown> {
  const { rotarySize: size, rotaryBase: base, rotaryScaling: scaling, contextLength: length, headSize } = config;
  // NTK-aware scalings only change the base.
  const stretched = stretchedBase({ size, length, base, scaling });
  return {
    rope_theta: stretched ?? base,
    rope_scaling: stretched !== null && stretched !== base ? null : toRopeScaling(scaling),
    ...(size !== headSize && { partial_rotary_factor: partialFactor(size, headSize) }),
  };
}

/** Returns a factor from which readers compute exactly `size`. Readers truncate the product. */
function partialFactor(size: number, headSize: number): number {
  const factor = size / headSize;
  return Math.trunc(headSize * factor) === size ? factor : factor * (1 + Number.EPSILON);
}

function toRopeScaling(scaling: RotaryScaling | null): Record<string, unknown> | null {
  if (!scaling) return null;
  switch (scaling.type) {
    case "linear":
    case "dynamic":
      return { rope_type: scaling.type, factor: scaling.factor };
    case "yarn": {
      const { factor, originalLength, betaFast, betaSlow, attentionFactor, truncate } = scaling;
      const options = { beta_fast: betaFast, beta_slow: betaSlow, attention_factor: attentionFactor, truncate };
      return { rope_type: "yarn", factor, original_max_position_embeddings: originalLength, ...defined(options) };
    }
    case "llama3": {
      const { factor, originalLength, lowFrequencyFactor = 1, highFrequencyFactor = 4 } = scaling;
      return {
        rope_type: "llama3",
        factor,
        original_max_position_embeddings: originalLength,
        low_freq_factor: lowFrequencyFactor,
        high_freq_factor: highFrequencyFactor,
      };
    }
    case "factors": {
      const factors = [...scaling.factors];
      return { rope_type: "longrope", factor: 1, attention_factor: 1, short_factor: factors, long_factor: factors };
    }
    case "ntk":
      // The base expresses this scaling.
      return null;
  }
}

/** Returns the entries that are not undefined. */
function defined<T extends object>(entries: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined)) as never;
}
