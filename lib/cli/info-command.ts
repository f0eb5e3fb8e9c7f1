import { Command } from "commander";
import type { InfoFlags } from "./info-flags.js";
import { repeatable } from "./arguments.js";
import { inferenceOptions } from "./inference-options.js";

export function infoCommand(): Command {
  return new Command("info")
    .description("Show versions, devices, the memory, the instruction set and the number of threads.")
    .option("--model <name>", "also load a model and print what heed serve would choose for it", repeatable)
    .addOption(inferenceOptions.context)
    .addOption(inferenceOptions.kvMemory)
    .addOption(inferenceOptions.kvType)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.quantize)
    .addOption(inferenceOptions.activations)
    .addOption(inferenceOptions.device)
    .addHelpText(
      "after",
      `
Examples:
  $ heed info
  $ heed info --model Qwen/Qwen3-0.6B --kv-memory 2GiB`,
    )
    .action(async (flags: InfoFlags) => (await import("./info.js")).info(flags));
}
