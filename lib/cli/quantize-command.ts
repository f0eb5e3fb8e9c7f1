import { Command, Option } from "commander";
import { text } from "./arguments.js";
import { type QuantizeFlags, quantizeTypes } from "./convert-flags.js";
import { inferenceOptions } from "./inference-options.js";
import { groupSizes } from "../ops/quantize.js";

export function quantizeCommand(): Command {
  return new Command("quantize")
    .description("Write a model, and its tokenizer, with matrices in fewer bits: as a .gguf file or a folder.")
    .requiredOption("--model <name>", "a folder, a file or a model on the hub, as for heed convert --from", text)
    .requiredOption("--to <name>", "the .gguf file to write, or for int8 and int4 the folder", text)
    .addOption(
      new Option(
        "--type <type>",
        "8.5 (q8_0), 6.6 (q6_k), 5.5 (q5_k) or 4.5 bits a weight (q4_k, q4_0) in a .gguf file, in which matrices whose rows do not fill blocks of 256 are in q8_0 or f16, with a notice; or heed's own codes of 8 or 4 bits (int8, int4) in a folder in Hugging Face's format",
      )
        .choices(quantizeTypes)
        .default("q4_k"),
    )
    .addOption(
      new Option("--group-size <n>", "inputs that share a scale in int8 and int4 (default: 32)").choices(
        groupSizes.map(String),
      ),
    )
    .option(
      "--calibrate <file>",
      "a text that the model reads first, so that weights of large inputs become more exact; in q4_0, int8 and int4, later weights also make up for the errors of earlier ones (GPTQ)",
      text,
    )
    .addOption(inferenceOptions.device)
    .option("--force", "replace an existing file or folder")
    .addHelpText(
      "after",
      `
Examples:
  $ heed quantize --model HuggingFaceTB/SmolLM2-135M --to smol.gguf
  $ heed quantize --model runs/book --to book.gguf --type q4_0 --calibrate book.txt
  $ heed quantize --model runs/book --to book-int4 --type int4 --group-size 64 --calibrate book.txt`,
    )
    .action(async (flags: QuantizeFlags) => (await import("./convert.js")).quantize(flags));
}
