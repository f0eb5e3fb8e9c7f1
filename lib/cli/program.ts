import { Command } from "commander";
import { version } from "../util/version.js";

/** A command: what the list of commands says about it, and its file, which is loaded only when the command is chosen. */
interface Entry {
  usage: string;
  description: string;
  load: () => Promise<{ define: (command: Command) => Command }>;
}

/** The commands, in the order in which they are listed. */
const entries: Readonly<Record<string, Entry>> = {
  train: {
    usage: "[options]",
    description:
      "Train a GPT or a Llama on a text, or fine-tune a trained model on texts or conversations. Ctrl-C saves the run and stops; --resume continues exactly from there.",
    load: () => import("./commands/train.js"),
  },
  data: {
    usage: "[options] <inputs...>",
    description:
      "Tokenise files to a folder of shards for heed train --data, or show the numbers of such a folder. A run that was stopped is continued.",
    load: () => import("./commands/data.js"),
  },
  report: {
    usage: "[options] <runs...>",
    description:
      "Write a page in HTML that shows and compares training runs. It is one file, which loads nothing else.",
    load: () => import("./commands/report.js"),
  },
  eval: {
    usage: "[options] [tasks...]",
    description: "Evaluate a model: on tasks in the form of lm-evaluation-harness, and by the perplexity of texts.",
    load: () => import("./commands/eval.js"),
  },
  generate: {
    usage: "[options] [prompt]",
    description: "Continue a text with a trained model and print it as it is generated.",
    load: () => import("./commands/generate.js"),
  },
  serve: {
    usage: "[options]",
    description: "Serve models over OpenAI's HTTP interface.",
    load: () => import("./commands/serve.js"),
  },
  batch: {
    usage: "[options] <input> <output>",
    description: "Answer a file of requests in OpenAI's batch format; a run that was stopped is continued.",
    load: () => import("./commands/batch.js"),
  },
  translate: {
    usage: "[options] [texts...]",
    description: "Translate texts with an encoder–decoder model.",
    load: () => import("./commands/translate.js"),
  },
  convert: {
    usage: "[options]",
    description: "Write a model, and its tokenizer, in another format.",
    load: () => import("./commands/convert.js"),
  },
  quantize: {
    usage: "[options]",
    description: "Write a model, and its tokenizer, with matrices in fewer bits: as a .gguf file or a folder.",
    load: () => import("./commands/quantize.js"),
  },
  merge: {
    usage: "[options]",
    description: "Write a model with its adapter merged into the weights, which any program can use.",
    load: () => import("./commands/merge.js"),
  },
  inspect: {
    usage: "[options] <text>",
    description: "Write a page that shows what a model computes for a text: attention, layers, neurons, ablations.",
    load: () => import("./commands/inspect.js"),
  },
  info: {
    usage: "[options]",
    description: "Show versions, devices, the memory, the instruction set and the number of threads.",
    load: () => import("./commands/info.js"),
  },
};

/**
 * Resolves to the command line for these arguments. Only the command that they choose is loaded, with the native addon if
 * it needs it.
 */
export async function createProgram(args: readonly string[]): Promise<Command> {
  const program = new Command("heed")
    .description("Train and use transformers.")
    .version(version())
    .configureHelp({
      subcommandTerm: (command) => `${command.name()} ${entries[command.name()]?.usage ?? command.usage()}`,
    })
    .addHelpText(
      "after",
      `
Examples:
  $ heed train --data book.txt --out runs/book
  $ heed generate --model runs/book "Once upon a time"
  $ heed info`,
    );
  const chosen = args.find((word) => Object.hasOwn(entries, word));
  for (const [name, { description, load }] of Object.entries(entries)) {
    const command = program.command(name).description(description);
    if (name === chosen) (await load()).define(command);
  }
  for (const command of [program, ...program.commands])
    command.exitOverride().configureOutput({
      // Every error takes one line; commander puts its suggestions on a second one.
      outputError: (text, write) => write(`${text.trim().replaceAll(/\s*\n\s*/g, " ")}\n`),
    });
  return program;
}
