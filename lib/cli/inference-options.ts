import { Option } from "commander";
import type { FloatDType } from "../core/dtype.js";
import { type KvType, kvTypes } from "../nn/kv-pages.js";
import type { LoadOptions } from "../load/load.js";
import { type ActivationBits, activationBits } from "../ops/quantize.js";
import { bytes, deviceName, integer } from "./arguments.js";

/** The number of bits of each quantized type. */
export const quantizedTypes = { int8: 8, int4: 4 } as const;

/** The flags of commands that run a model, which say in how many bits it computes. */
export interface TypeFlags {
  dtype?: FloatDType | undefined;
  quantize?: keyof typeof quantizedTypes | undefined;
  activations?: `${ActivationBits}` | undefined;
}

/** Returns the options of `load` for flags. */
export function typeOptions({
  dtype,
  quantize,
  activations,
}: TypeFlags): Pick<LoadOptions, "dtype" | "quantize" | "activations"> {
  return {
    ...(dtype && { dtype }),
    ...(quantize && { quantize: quantizedTypes[quantize] }),
    ...(activations && { activations: Number(activations) as ActivationBits }),
  };
}

/** The flags of commands that run a model. */
export interface InferenceFlags extends TypeFlags {
  device: string;
  threads?: number;
}

/** The flags of commands whose models have an engine. */
export interface EngineFlags {
  context?: number;
  kvMemory?: number;
  kvType?: KvType;
}

/** Returns the options of an engine for flags. */
export function engineOptions({ context, kvMemory, kvType }: EngineFlags): EngineFlags {
  return {
    ...(context !== undefined && { context }),
    ...(kvMemory !== undefined && { kvMemory }),
    ...(kvType !== undefined && { kvType }),
  };
}

/** The options for flags that several commands share. */
export const inferenceOptions = {
  dtype: new Option(
    "--dtype <type>",
    "type in which the model computes, to which its parameters are rounded (default: the type in which they are stored); f32 rounds nothing",
  ).choices(["f32", "bf16", "f16"]),
  context: new Option(
    "--context <n>",
    "most tokens of a prompt and its answer together (default: what the model sees, or what the memory has room for)",
  ).argParser(integer(1)),
  kvMemory: new Option(
    "--kv-memory <bytes>",
    "most memory for keys and values of all models, such as 512MiB or 2GiB (default: three quarters of what is free beside the weights)",
  ).argParser(bytes),
  kvType: new Option(
    "--kv-type <type>",
    "f16 and bf16 store the keys and values of a model in f32 in 16 bits, int8 stores them in 8, so that two or four times as many tokens fit (default: the dtype)",
  ).choices(kvTypes),
  quantize: new Option("--quantize <type>", "store the weights in 8 or 4 bits").choices(Object.keys(quantizedTypes)),
  activations: new Option(
    "--activations <bits>",
    "bits to which products with weights in blocks or codes round activations: 8 is fastest, 24 exact (default: 16)",
  ).choices(activationBits.map(String)),
  device: new Option("--device <name>", "cpu, cuda, cuda:1, … or auto, which is a GPU if there is one")
    .argParser(deviceName)
    .default("auto"),
  threads: new Option("--threads <n>", "number of CPU threads (default: one per core)").argParser(integer(1, 256)),
};
