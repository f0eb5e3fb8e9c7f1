import { Command, Option } from "commander";
import { integer, text } from "./arguments.js";
import type { DataFlags } from "./data-flags.js";

export function dataCommand(): Command {
  return new Command("data")
    .description(
      "Tokenise files to a folder of shards for heed train --data, or show the numbers of such a folder. A run that was stopped is continued.",
    )
    .argument(
      "<inputs...>",
      "files, folders, patterns or data sets of the hub (owner/name): .txt, .jsonl, .csv and .parquet, also with .gz or .zst; without --out one folder of shards",
    )
    .option("--out <folder>", "folder for the shards", text)
    .option(
      "--tokenizer <name>",
      "gpt2, byte, or a model whose tokenizer is used, as for heed generate --model",
      text,
      "gpt2",
    )
    .addOption(
      new Option(
        "--kind <kind>",
        "texts, examples of which only the answers count, or pairs of answers (default: what the first record is)",
      ).choices(["text", "examples", "preference"]),
    )
    .option(
      "--separator <text>",
      "text between the documents of a text file, such as '\\n' (default: a text file is one document)",
      text,
    )
    .option("--text-column <name>", "field or column with texts", text, "text")
    .option("--threads <n>", "threads that encode (default: the number of CPU cores)", integer(1, 1024))
    .option("--shard-tokens <n>", "tokens after which a new shard begins (default: 67108864)", integer(1, 2 ** 30))
    .option("--max-bad <n>", "malformed lines that are reported and left out; one more ends the run", integer(0), 0)
    .option("--revision <name>", "branch, tag or commit of data sets of the hub (default: main)", text)
    .option("--show <n>", "show the document with this number, counted from 0; only without --out", integer(0))
    .addHelpText(
      "after",
      `
Examples:
  $ heed data 'books/*.txt.gz' --out books
  $ heed data roneneldan/TinyStories --tokenizer Qwen/Qwen3-0.6B --out stories
  $ heed data chats.jsonl --tokenizer Qwen/Qwen3-0.6B --out chats
  $ heed data books --show 3`,
    )
    .action(async (inputs: string[], flags: DataFlags) => (await import("./data.js")).run(inputs, flags));
}
