import { Command, Option } from "commander";
import { deviceName, integer, number, text } from "./arguments.js";
import { defaults, positionings, tokenizers, type TrainFlags, trainFamilies } from "./train-flags.js";

export function trainCommand(): Command {
  const or = (name: keyof typeof defaults, note = ""): string => `(default: ${defaults[name]}${note})`;
  return new Command("train")
    .description("Train a GPT or a Llama on a text. Ctrl-C saves and stops; --resume goes on exactly where it was.")
    .optionsGroup("Data:")
    .option("--data <file>", "the text to train on", text)
    .option("--validation <file>", "a text to evaluate on; the end of the data unless given", text)
    .option(
      "--validation-fraction <x>",
      `how much of the data's end is held out for it ${or("validationFraction")}`,
      number(0, 0.9),
    )
    .addOption(
      new Option("--tokenizer <kind>", `characters, bytes or GPT-2's tokens ${or("tokenizer")}`).choices(tokenizers),
    )
    .option(
      "--documents",
      "with GPT-2's tokens: each <|endoftext|> in the text begins a document, whose tokens see it alone",
    )
    .requiredOption("--out <folder>", "where checkpoints and the log go", text)
    .optionsGroup("Model:")
    .addOption(new Option("--family <name>", `GPT-2's blocks or Llama's ${or("family")}`).choices(trainFamilies))
    .option("--layers <n>", `transformer blocks ${or("layers")}`, integer(1))
    .option("--heads <n>", `attention heads a block ${or("heads")}`, integer(1))
    .option("--width <n>", `size of the residual stream, a multiple of the heads ${or("width")}`, integer(1))
    .option("--kv-heads <n>", "heads of keys and values, a divisor of the heads (default: as many)", integer(1))
    .option("--hidden <n>", "width of the feed-forward (default: four widths; of a Llama 8/3)", integer(1))
    .addOption(
      new Option(
        "--positions <kind>",
        `how a GPT knows where a token stands; a Llama's are rotary ${or("positions")}`,
      ).choices(positionings),
    )
    .option("--window <n>", `a token sees the last n alone; 0, all ${or("window")}`, integer(0))
    .option("--context <n>", `tokens that the model sees at once ${or("context")}`, integer(1))
    .option("--dropout <x>", `share of activations dropped in training ${or("dropout")}`, number(0, 1))
    .optionsGroup("Training:")
    .option("--steps <n>", `length of the run ${or("steps", ", without --max-minutes")}`, integer(1))
    .option("--max-minutes <x>", "the most time the run takes; the learning rate falls with it", number(0))
    .option("--batch <n>", `sequences a micro-batch ${or("batch")}`, integer(1))
    .option("--accumulate <n>", `micro-batches a step ${or("accumulate")}`, integer(1))
    .option("--lr <x>", `the highest learning rate ${or("lr")}`, number(0))
    .option("--min-lr <x>", "the lowest, at the end (default: a tenth of the highest)", number(0))
    .option(
      "--warmup <n>",
      `steps over which the learning rate rises ${or("warmup", ", at most a tenth of the steps")}`,
      integer(0),
    )
    .option("--weight-decay <x>", `AdamW's weight decay ${or("weightDecay")}`, number(0))
    .option("--clip <x>", `the largest norm of a step's gradients; 0 is off ${or("clip")}`, number(0))
    .option("--seed <n>", `the same seed gives the same run ${or("seed")}`, integer(0))
    .addOption(
      new Option("--dtype <type>", `of the activations: bf16 halves their memory ${or("dtype")}`).choices([
        "f32",
        "bf16",
      ]),
    )
    .option(
      "--gradient-checkpointing",
      "compute activations again in the backward pass instead of keeping them: less memory, a third more time",
    )
    .option("--device <name>", "cpu, cuda, cuda:1, … (default: a GPU if there is one)", deviceName)
    .option("--threads <n>", "CPU threads (default: one a core)", integer(1, 256))
    .optionsGroup("Evaluation and checkpoints:")
    .option("--eval-every <n>", `steps between evaluations ${or("evalEvery")}`, integer(1))
    .option("--eval-batches <n>", `batches an evaluation takes ${or("evalBatches")}`, integer(1))
    .option("--checkpoint-every <n>", `steps between checkpoints ${or("checkpointEvery")}`, integer(1))
    .option("--keep <n>", `checkpoints to keep ${or("keep")}`, integer(1))
    .option("--resume", "go on from the newest whole checkpoint in --out; other flags are those of before unless given")
    .option("--log <file>", "every event as a line of JSON (default: log.jsonl in --out)", text)
    .addHelpText(
      "after",
      `
Examples:
  $ heed train --data book.txt --out runs/book
  $ heed train --data book.txt --out runs/book --resume --steps 5000
  $ heed train --data book.txt --out runs/llama --family llama --kv-heads 2
  $ heed train --data book.txt --out runs/large --tokenizer gpt2 --layers 8 --heads 8 --width 512 \\
      --context 256 --batch 8 --accumulate 4 --dropout 0.1 --max-minutes 600`,
    )
    .action(async (flags: TrainFlags) => (await import("./train.js")).run(flags));
}
