import { Command } from "commander";
import { text } from "./arguments.js";
import { addOutputFlags, type ConvertFlags } from "./convert-flags.js";

export function convertCommand(): Command {
  const command = new Command("convert")
    .description("Write a model, and its tokenizer, in another format.")
    .requiredOption(
      "--from <name>",
      "a run's folder, a folder in Hugging Face's format, a .gguf file, a llama2.c .bin file, or a model on the hub (owner/name)",
      text,
    );
  return addOutputFlags(command)
    .addHelpText(
      "after",
      `
Examples:
  $ heed convert --from runs/book --to book-gpt2
  $ heed convert --from HuggingFaceTB/SmolLM2-135M --to smol.gguf --dtype q8_0
  $ heed convert --from smol.gguf --to smol --dtype bf16`,
    )
    .action(async (flags: ConvertFlags) => (await import("./convert.js")).run(flags));
}
