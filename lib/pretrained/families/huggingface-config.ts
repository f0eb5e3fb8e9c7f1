// What the config.json files of Hugging Face's models have in common.
import { describe, HeedError } from "../../errors.js";
import type { Activation } from "../../ops/activation.js";

/** Our activations by Hugging Face's names; the first of each is the one that is written. */
const activationNames: Record<string, Activation> = {
  linear: "none",
  gelu_new: "gelu",
  gelu_pytorch_tanh: "gelu",
  gelu: "geluErf",
  gelu_python: "geluErf",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  sigmoid: "sigmoid",
};

/** Our activation of Hugging Face's name; null for others. */
export function activationNamed(name: unknown): Activation | null {
  return typeof name === "string" && Object.hasOwn(activationNames, name) ? activationNames[name]! : null;
}

/** Hugging Face's name of our activation. */
export function nameOfActivation(activation: Activation): string {
  return Object.entries(activationNames).find(([, ours]) => ours === activation)![0];
}

/**
 * A configuration's entries, under the family's own names where files have others (`aliases`). Throws ERR_FORMAT unless
 * its model type is one of these, or where an entry and its alias differ.
 */
export function configOf(
  json: unknown,
  types: readonly string[],
  aliases: Readonly<Record<string, string>> = {},
): Readonly<Record<string, unknown>> {
  const config = { ...(typeof json === "object" ? json : null) } as Record<string, unknown>;
  if (!(types as readonly unknown[]).includes(config.model_type))
    throw new HeedError(
      "ERR_FORMAT",
      `config: expected "model_type" ${types.join(", ")}, got ${describe(config.model_type)}`,
    );
  for (const [alias, name] of Object.entries(aliases)) {
    if (config[alias] == null) continue;
    config[name] ??= config[alias];
    if (config[name] !== config[alias])
      throw new HeedError(
        "ERR_FORMAT",
        `config: expected ${alias} to be ${name}, which is ${describe(config[name])}, got ${describe(config[alias])}`,
      );
  }
  return config;
}

/** The activation that an entry names. Throws ERR_FORMAT for one that is not known. */
export function activationOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: string): Activation {
  const given = config[name] ?? otherwise;
  const activation = activationNamed(given);
  if (activation) return activation;
  throw new HeedError("ERR_FORMAT", `config: expected a known ${name}, got ${describe(given)}`);
}

/** A finite number, or `otherwise` where the configuration says nothing. Throws ERR_FORMAT for anything else. */
export function numberOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: number): number {
  const value = config[name] ?? otherwise;
  if (Number.isFinite(value)) return value as number;
  throw new HeedError("ERR_FORMAT", `config: expected ${name} to be a number, got ${describe(config[name])}`);
}

/** true or false, or `otherwise` where the configuration says nothing. Throws ERR_FORMAT for anything else. */
export function booleanOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: boolean): boolean {
  const value = config[name] ?? otherwise;
  if (typeof value === "boolean") return value;
  throw new HeedError("ERR_FORMAT", `config: expected ${name} to be true or false, got ${describe(value)}`);
}

/** Throws ERR_FORMAT unless an entry is what the family's models are made for, or missing. */
export function expectEntry(config: Readonly<Record<string, unknown>>, name: string, expected: unknown): void {
  const value = config[name] ?? expected;
  if (value !== expected)
    throw new HeedError("ERR_FORMAT", `config: expected ${name} ${describe(expected)}, got ${describe(value)}`);
}

/** Throws ERR_FORMAT unless it is one, and at most `most`. */
export function positiveInteger(
  config: Readonly<Record<string, unknown>>,
  name: string,
  most = Number.MAX_SAFE_INTEGER,
): number {
  const value = config[name];
  if (Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most) return value as number;
  const range = most < Number.MAX_SAFE_INTEGER ? ` of at most ${most}` : "";
  throw new HeedError(
    "ERR_FORMAT",
    `config: expected ${name} to be a positive integer${range}, got ${describe(value)}`,
  );
}
