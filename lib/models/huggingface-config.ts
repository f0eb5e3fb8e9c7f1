// What the config.json files of Hugging Face's models have in common.
import { describe, HeedError } from "../errors.js";
import type { Activation } from "../ops/activation.js";

/** Our activations by Hugging Face's names. */
const activationNames: Record<string, Activation> = {
  gelu_new: "gelu",
  gelu_pytorch_tanh: "gelu",
  gelu: "geluErf",
  relu: "relu",
  silu: "silu",
  swish: "silu",
  sigmoid: "sigmoid",
};

/** Our activation of Hugging Face's name; null for others. */
export function activationNamed(name: unknown): Activation | null {
  return typeof name === "string" && Object.hasOwn(activationNames, name) ? activationNames[name]! : null;
}

/** Hugging Face's name of our activation; our own for what it has none of. */
export function nameOfActivation(activation: Activation): string {
  return Object.entries(activationNames).find(([, ours]) => ours === activation)?.[0] ?? activation;
}

/** Throws ERR_FORMAT unless it is one. */
export function positiveInteger(config: Readonly<Record<string, unknown>>, name: string): number {
  const value = config[name];
  if (!Number.isSafeInteger(value) || (value as number) < 1)
    throw new HeedError("ERR_FORMAT", `config: expected ${name} to be a positive integer, got ${describe(value)}`);
  return value as number;
}
