import { type Command, Option } from "commander";
import { isDeepStrictEqual } from "node:util";
import { activeAdapter, mergeAdapter } from "../../adapters/adapters.js";
import { quantizationOf } from "../../nn/quantization.js";
import { loadModel } from "../../pretrained/load-model.js";
import { trainedOver } from "../../train/checkpoint.js";
import { text } from "../arguments.js";
import { UsageError } from "../failure.js";
import { quantizedTypes } from "../inference-options.js";
import { addOutput, type OutputFlags, writeModel } from "../written-model.js";

/** The flags of `heed merge`. */
interface MergeFlags extends OutputFlags {
  model: string;
  adapter?: string;
  quantize?: keyof typeof quantizedTypes;
}

/** Adds the arguments and the options of `heed merge`. */
export function define(command: Command): Command {
  command
    .requiredOption("--model <name>", "a run of heed train --lora, or a model for --adapter", text)
    .option("--adapter <folder>", "an adapter in PEFT's format, if it is not the run's own", text)
    .addOption(
      new Option(
        "--quantize <type>",
        "round the model's weights first, as heed train --quantize does: the merged model then computes what was trained",
      ).choices(Object.keys(quantizedTypes)),
    );
  return addOutput(command)
    .addHelpText(
      "after",
      `
Examples:
  $ heed merge --model runs/tuned --out tuned
  $ heed merge --model Qwen/Qwen3-0.6B --adapter my-adapter --out tuned.gguf --dtype q8_0`,
    )
    .action(run);
}

/** Runs `heed merge`: writes a model with an adapter as a model without one. */
async function run({ model: from, adapter, quantize, ...flags }: MergeFlags): Promise<void> {
  const bits = quantize && quantizedTypes[quantize];
  const trained = adapter === undefined ? await trainedOver(from) : null;
  await writeModel(flags, async () => {
    const options = { ...(adapter !== undefined && { adapter }), ...(bits && { quantize: bits }) };
    const loaded = await loadModel(from, { device: "cpu", ...options });
    if (activeAdapter(loaded.model) === null)
      throw new UsageError(`--model ${from}: expected a model with an adapter, got one without; see --adapter`);
    // A model that is stored in such codes has no weights but those that the adapter was trained over.
    if (trained && !bits && !isDeepStrictEqual(quantizationOf("merge", loaded.model), trained))
      console.log(
        `the adapter was trained over weights in ${trained.bits} bits; it is merged into the model's own weights, which are more precise. With --quantize int${trained.bits} it is merged into the rounded ones`,
      );
    mergeAdapter(loaded.model.dequantize());
    return loaded;
  });
}
