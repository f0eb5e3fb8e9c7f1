import { Command } from "commander";
import { integer, text } from "./arguments.js";
import { inferenceOptions } from "./inference-options.js";
import type { InspectFlags } from "./inspect-flags.js";

export function inspectCommand(): Command {
  return new Command("inspect")
    .description("Write a page that shows what a model computes for a text: attention, layers, neurons, ablations.")
    .argument("<text>", 'the text; "-" reads it from stdin')
    .requiredOption(
      "--model <name>",
      "a run's folder, a folder in Hugging Face's or CTranslate2's format, a .gguf file, a llama2.c .bin file, or a model on the hub: owner/name",
      text,
    )
    .requiredOption("--out <file>", "the page to write; it is one HTML file that needs no network", text)
    .option("--max-tokens <n>", "show at most the first n tokens of the text", integer(1), 512)
    .option("--neurons <n>", "number of neurons of each layer to show, the most active ones", integer(0, 4096), 32)
    .option("--no-ablations", "leave out what changes without each part, which takes a pass of the model per part")
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed inspect --model runs/book --out page.html "Call me Ishmael."
  $ heed inspect --model openai-community/gpt2 --no-ablations --out page.html - < text.txt`,
    )
    .action(async (words: string, flags: InspectFlags) => (await import("./inspect.js")).run(words, flags));
}
