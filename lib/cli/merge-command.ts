import { Command, Option } from "commander";
import { text } from "./arguments.js";
import { convertTypes, type MergeFlags } from "./convert-flags.js";

export function mergeCommand(): Command {
  return new Command("merge")
    .description("Write a model with its adapter merged into the weights, which any program can use.")
    .requiredOption("--model <name>", "a run of heed train --lora, or a model for --adapter", text)
    .option("--adapter <folder>", "an adapter in PEFT's format, if it is not the run's own", text)
    .requiredOption("--to <name>", "a folder in Hugging Face's format, or a file that ends in .gguf or .bin", text)
    .addOption(
      new Option("--dtype <type>", "type of the numbers in the new file; q8_0 and q4_0 need a .gguf file")
        .choices(convertTypes)
        .default("f32"),
    )
    .option("--force", "replace an existing file or folder")
    .addHelpText(
      "after",
      `
Examples:
  $ heed merge --model runs/tuned --to tuned
  $ heed merge --model Qwen/Qwen3-0.6B --adapter my-adapter --to tuned.gguf --dtype q8_0`,
    )
    .action(async (flags: MergeFlags) => (await import("./convert.js")).merge(flags));
}
