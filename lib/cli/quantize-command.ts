import { Command, Option } from "commander";
import { text } from "./arguments.js";
import { type QuantizeFlags, quantizeTypes } from "./convert-flags.js";
import { inferenceOptions } from "./inference-options.js";

export function quantizeCommand(): Command {
  return new Command("quantize")
    .description("Write a model, and its tokenizer, as a .gguf file with matrices in fewer bits.")
    .requiredOption("--model <name>", "a folder, a file or a model on the hub, as for heed convert --from", text)
    .requiredOption("--to <file>", "the .gguf file to write", text)
    .addOption(
      new Option(
        "--type <type>",
        "8.5 (q8_0), 6.6 (q6_k), 5.5 (q5_k) or 4.5 bits a weight (q4_k, q4_0); matrices whose rows do not fill blocks of 256 are written in q8_0 or f16, with a notice",
      )
        .choices(quantizeTypes)
        .default("q4_k"),
    )
    .option(
      "--calibrate <file>",
      "a text that the model reads first, so that weights of large inputs become more exact; in q4_0, later weights also make up for the errors of earlier ones (GPTQ)",
      text,
    )
    .addOption(inferenceOptions.device)
    .option("--force", "replace an existing file")
    .addHelpText(
      "after",
      `
Examples:
  $ heed quantize --model HuggingFaceTB/SmolLM2-135M --to smol.gguf
  $ heed quantize --model runs/book --to book.gguf --type q4_0 --calibrate book.txt`,
    )
    .action(async (flags: QuantizeFlags) => (await import("./convert.js")).quantize(flags));
}
