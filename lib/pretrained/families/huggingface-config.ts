// Functions that the readers and writers of all families use for config.json.
import { describe, HeedError, oneOf } from "../../util/errors.js";
import type { Activation } from "../../ops/activation.js";
import { noteRead, noting } from "./known-entries.js";

/** heed's activations by Hugging Face's names. If an activation has several names, the first one is written. */
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

/** Returns heed's activation for a name of Hugging Face, or null for an unknown name. */
export function activationNamed(name: unknown): Activation | null {
  return typeof name === "string" && Object.hasOwn(activationNames, name) ? activationNames[name]! : null;
}

/** Returns Hugging Face's name of an activation. */
export function nameOfActivation(activation: Activation): string {
  return Object.entries(activationNames).find(([, ours]) => ours === activation)![0];
}

/**
 * Returns the entries of a configuration, which note that they are read. An entry under an alternative name (a key of `aliases`) is returned under the
 * family's own name.
 *
 * @throws ERR_FORMAT if the model type is not one of `types`, or an entry and its alias differ.
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
      `config: expected "model_type" to be ${oneOf(types)}, got ${describe(config.model_type)}`,
    );
  const noted = noting(json as object, config);
  for (const [alias, name] of Object.entries(aliases)) {
    noteRead(json as object, alias);
    if (config[alias] == null) continue;
    config[name] ??= config[alias];
    if (config[name] !== config[alias])
      throw new HeedError(
        "ERR_FORMAT",
        `config: expected ${alias} to equal ${name} (${describe(config[name])}), got ${describe(config[alias])}`,
      );
  }
  return noted;
}

/**
 * Returns the activation that an entry names. A missing entry counts as `otherwise`.
 *
 * @throws ERR_FORMAT if the name is unknown.
 */
export function activationOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: string): Activation {
  const given = config[name] ?? otherwise;
  const activation = activationNamed(given);
  if (activation) return activation;
  throw new HeedError("ERR_FORMAT", `config: expected a known ${name}, got ${describe(given)}`);
}

/**
 * Returns a finite number, or `otherwise` if the entry is missing.
 *
 * @throws ERR_FORMAT if the entry is anything else.
 */
export function numberOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: number): number {
  const value = config[name] ?? otherwise;
  if (Number.isFinite(value)) return value as number;
  throw new HeedError("ERR_FORMAT", `config: expected ${name} to be a number, got ${describe(config[name])}`);
}

/**
 * Returns true or false, or `otherwise` if the entry is missing.
 *
 * @throws ERR_FORMAT if the entry is anything else.
 */
export function booleanOf(config: Readonly<Record<string, unknown>>, name: string, otherwise: boolean): boolean {
  const value = config[name] ?? otherwise;
  if (typeof value === "boolean") return value;
  throw new HeedError("ERR_FORMAT", `config: expected ${name} to be true or false, got ${describe(value)}`);
}

/**
 * Checks that an entry is missing or has the only value that heed's models of the family support.
 *
 * @throws ERR_FORMAT if it has another value.
 */
export function expectEntry(config: Readonly<Record<string, unknown>>, name: string, expected: unknown): void {
  const value = config[name] ?? expected;
  if (value !== expected)
    throw new HeedError("ERR_FORMAT", `config: expected ${name} to be ${describe(expected)}, got ${describe(value)}`);
}

/**
 * Returns an integer from 1 to `most`.
 *
 * @throws ERR_FORMAT if the entry is missing or anything else.
 */
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
