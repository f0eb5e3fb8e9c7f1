import type { Command } from "commander";
import { loadModel } from "../../pretrained/load-model.js";
import { text } from "../arguments.js";
import { addOutput, type OutputFlags, writeModel } from "../written-model.js";

/** The flags of `heed convert`. */
interface ConvertFlags extends OutputFlags {
  model: string;
}

/** Adds the arguments and the options of `heed convert`. */
export function define(command: Command): Command {
  command.requiredOption(
    "--model <name>",
    "a run's folder, a folder in Hugging Face's format, a .gguf file, a llama2.c .bin file, or a model on the hub (owner/name)",
    text,
  );
  return addOutput(command)
    .addHelpText(
      "after",
      `
Examples:
  $ heed convert --model runs/book --out book-gpt2
  $ heed convert --model HuggingFaceTB/SmolLM2-135M --out smol.gguf --dtype q8_0
  $ heed convert --model smol.gguf --out smol --dtype bf16`,
    )
    .action(run);
}

/** Runs `heed convert`: writes a model in another format. */
async function run(flags: ConvertFlags): Promise<void> {
  // The parameters only pass through the host's memory, so no other device is needed.
  await writeModel(flags, () => loadModel(flags.model, { device: "cpu", quantize: false }));
}
