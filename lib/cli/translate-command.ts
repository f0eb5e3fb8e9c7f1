import { Command } from "commander";
import { integer, number, text } from "./arguments.js";
import { inferenceOptions } from "./inference-options.js";
import type { TranslateFlags } from "./translate-flags.js";

export function translateCommand(): Command {
  return new Command("translate")
    .description("Translate texts with an encoder–decoder model.")
    .argument("[texts...]", "texts to translate (default: the lines of stdin)")
    .requiredOption(
      "--model <folder>",
      "a CTranslate2 folder, a folder in Hugging Face's format (T5, or Marian in safetensors), or a model on the hub (owner/name)",
      text,
    )
    .option("--beam <n>", "number of hypotheses that the search keeps; 1 means greedy search", integer(1), 4)
    .option("--n-best <n>", "print the n best translations, one per line: log-probability, tab, text", integer(1), 1)
    .option(
      "--length-penalty <x>",
      "divide log-probabilities by the length to this power when ranking; 0 turns this off",
      number(-100, 100),
      1,
    )
    .option("--max-tokens <n>", "largest number of tokens in a translation", integer(1), 256)
    .option("--batch-size <n>", "number of texts that are translated together", integer(1), 32)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed translate --model google-t5/t5-small "translate English to German: Good morning"
  $ heed translate --model google-t5/t5-small --beam 5 --n-best 5 "translate English to French: Thank you"
  $ heed translate --model my-ctranslate2-folder < names.txt > translated.txt`,
    )
    .action(async (texts: string[], flags: TranslateFlags) => (await import("./translate.js")).run(texts, flags));
}
