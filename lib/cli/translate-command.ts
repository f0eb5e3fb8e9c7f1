import { Command } from "commander";
import { integer, number, text } from "./arguments.js";
import { inferenceOptions } from "./inference-options.js";
import type { TranslateFlags } from "./translate-flags.js";

export function translateCommand(): Command {
  return new Command("translate")
    .description("Translate texts with an encoder–decoder.")
    .argument("[texts...]", "what to translate, each by itself; the lines of stdin unless given")
    .requiredOption(
      "--model <folder>",
      "a folder of CTranslate2 or in Hugging Face's format (Marian, T5), or a model of the hub",
      text,
    )
    .option("--beam <n>", "how many hypotheses go on at a time; 1 is greedy", integer(1), 4)
    .option("--n-best <n>", "print the n best, a line each: log-probability, tab, text", integer(1), 1)
    .option("--length-penalty <x>", "rank by log-probability over length to this power; 0 is off", number(-100, 100), 1)
    .option("--max-tokens <n>", "the most tokens of a translation", integer(1), 256)
    .option("--batch-size <n>", "texts that are translated together", integer(1), 32)
    .addOption(inferenceOptions.dtype)
    .addOption(inferenceOptions.device)
    .addOption(inferenceOptions.threads)
    .addHelpText(
      "after",
      `
Examples:
  $ heed translate --model models/ar-en "آزا"
  $ heed translate --model models/ar-en --beam 5 --n-best 5 "آتزمون"
  $ heed translate --model models/ar-en < names.txt > translated.txt`,
    )
    .action(async (texts: string[], flags: TranslateFlags) => (await import("./translate.js")).run(texts, flags));
}
