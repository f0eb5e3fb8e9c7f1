import { Option } from "commander";
import type { FloatDType } from "../dtype.js";
import { deviceName, integer } from "./arguments.js";

/** The flags of commands that run a model. */
export interface InferenceFlags {
  dtype: FloatDType;
  device: string;
  threads?: number;
}

/** The number of bits of each quantized type. */
export const quantizedTypes = { int8: 8, int4: 4 } as const;

/** The options for flags that several commands share. */
export const inferenceOptions = {
  dtype: new Option("--dtype <type>", "type to which the model's parameters are rounded")
    .choices(["f32", "bf16", "f16"])
    .default("f32"),
  quantize: new Option("--quantize <type>", "store the weights in 8 or 4 bits").choices(Object.keys(quantizedTypes)),
  device: new Option("--device <name>", "cpu, cuda, cuda:1, … or auto, which is a GPU if there is one")
    .argParser(deviceName)
    .default("auto"),
  threads: new Option("--threads <n>", "number of CPU threads (default: one per core)").argParser(integer(1, 256)),
};
