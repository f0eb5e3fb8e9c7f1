import { Command, Option } from "commander";
import type { FloatDType } from "../dtype.js";
import { integer, number, repeatable } from "./arguments.js";

export interface GenerateFlags {
  model: string;
  maxTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  seed?: number;
  stop?: string[];
  echo: boolean;
  dtype: FloatDType;
  device: string;
  threads?: number;
}

export function generateCommand(): Command {
  return new Command("generate")
    .description("Continue a text with a trained model, as it is generated.")
    .argument("[prompt]", 'the text to continue; "-" reads it from stdin')
    .requiredOption("--model <folder>", "a run's folder, or one of its checkpoints")
    .option("--max-tokens <n>", "the most tokens to generate", integer(1), 256)
    .option("--temperature <x>", "how freely to choose; 0 takes the likeliest token", number(0), 0.8)
    .option("--top-k <n>", "only the n likeliest tokens; 0 is off", integer(0), 0)
    .option("--top-p <x>", "only the likeliest tokens that together have probability x", number(Number.MIN_VALUE, 1), 1)
    .option("--min-p <x>", "only tokens at least x times as likely as the likeliest", number(0, 1), 0)
    .option(
      "--repetition-penalty <x>",
      "make tokens that came before less likely; 1 is off",
      number(Number.MIN_VALUE),
      1,
    )
    .option("--seed <n>", "the same seed gives the same text; a random one unless given", integer(0))
    .option("--stop <text>", "end before this text; may be given several times", repeatable)
    .option("--no-echo", "print what follows the prompt, without the prompt")
    .addOption(
      new Option("--dtype <type>", "what the model is rounded to").choices(["f32", "bf16", "f16"]).default("f32"),
    )
    .option("--device <name>", "cpu, cuda, cuda:1, …; auto is a GPU if there is one", "auto")
    .option("--threads <n>", "CPU threads; one a core unless given", integer(1, 256))
    .addHelpText(
      "after",
      `
Examples:
  $ heed generate --model runs/book "Once upon a time"
  $ heed generate --model runs/book --max-tokens 500 --temperature 0.7 --top-p 0.9 "It was"
  $ heed generate --model runs/book --seed 1 --no-echo - < prompt.txt`,
    )
    .action(async (prompt: string | undefined, flags: GenerateFlags) =>
      (await import("./generate.js")).run(prompt, flags),
    );
}
