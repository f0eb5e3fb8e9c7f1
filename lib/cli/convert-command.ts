import { Command, Option } from "commander";
import { text } from "./arguments.js";
import { type ConvertFlags, convertTypes } from "./convert-flags.js";

export function convertCommand(): Command {
  return new Command("convert")
    .description("Write a model, and its tokenizer, in another format.")
    .requiredOption(
      "--from <name>",
      "a run's folder, a folder in Hugging Face's format, a .gguf file, a llama2.c .bin file, or a model on the hub (owner/name)",
      text,
    )
    .requiredOption(
      "--to <name>",
      "a folder in Hugging Face's format, or a file that ends in .gguf or .bin (llama2.c)",
      text,
    )
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
  $ heed convert --from runs/book --to book-gpt2
  $ heed convert --from HuggingFaceTB/SmolLM2-135M --to smol.gguf --dtype q8_0
  $ heed convert --from smol.gguf --to smol --dtype bf16`,
    )
    .action(async (flags: ConvertFlags) => (await import("./convert.js")).run(flags));
}
