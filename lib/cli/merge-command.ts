import { Command, Option } from "commander";
import { text } from "./arguments.js";
import { addOutputFlags, type MergeFlags } from "./convert-flags.js";
import { quantizedTypes } from "./inference-options.js";

export function mergeCommand(): Command {
  const command = new Command("merge")
    .description("Write a model with its adapter merged into the weights, which any program can use.")
    .requiredOption("--model <name>", "a run of heed train --lora, or a model for --adapter", text)
    .option("--adapter <folder>", "an adapter in PEFT's format, if it is not the run's own", text)
    .addOption(
      new Option(
        "--quantize <type>",
        "round the model's weights first, as heed train --quantize does: the merged model then computes what was trained",
      ).choices(Object.keys(quantizedTypes)),
    );
  return addOutputFlags(command)
    .addHelpText(
      "after",
      `
Examples:
  $ heed merge --model runs/tuned --to tuned
  $ heed merge --model Qwen/Qwen3-0.6B --adapter my-adapter --to tuned.gguf --dtype q8_0`,
    )
    .action(async (flags: MergeFlags) => (await import("./convert.js")).merge(flags));
}
