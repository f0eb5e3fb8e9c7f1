import { type Command, Option } from "commander";
import { text } from "./arguments.js";
import type { groupSizes } from "../ops/quantize.js";
import type { quantizedTypes } from "./inference-options.js";

/** The types in which `heed convert` can write numbers. */
const convertTypes = ["f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"] as const;
/** The types in which `heed quantize` can write numbers: those of GGUF files, and heed's own codes. */
export const quantizeTypes = ["q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "int8", "int4"] as const;

/** The flags of `heed convert`. */
export interface ConvertFlags {
  from: string;
  to: string;
  dtype: (typeof convertTypes)[number];
  force?: boolean;
}

/** The flags of `heed merge`. */
export interface MergeFlags extends Omit<ConvertFlags, "from"> {
  model: string;
  adapter?: string;
  quantize?: keyof typeof quantizedTypes;
}

/** The flags of `heed quantize`. */
export interface QuantizeFlags {
  model: string;
  to: string;
  type: (typeof quantizeTypes)[number];
  groupSize?: `${(typeof groupSizes)[number]}`;
  calibrate?: string;
  device: string;
  force?: boolean;
}

/** Adds the flags about the model that a command writes. */
export function addOutputFlags(command: Command): Command {
  return command
    .requiredOption(
      "--to <name>",
      "a folder in Hugging Face's format, or a file that ends in .gguf or .bin (llama2.c)",
      text,
    )
    .addOption(
      new Option("--dtype <type>", "type of the numbers in the new file; those that begin with q need a .gguf file")
        .choices(convertTypes)
        .default("f32"),
    )
    .option("--force", "replace an existing file or folder");
}
