import { type Command, Option } from "commander";
import type { Module } from "../../nn/module.js";
import { groupSizes } from "../../ops/quantize.js";
import { quantizeBySearch, type QuantizeBySearchOptions } from "../../pretrained/gptq/quantize-by-search.js";
import { inputImportance } from "../../pretrained/input-importance.js";
import { type LoadedParts, loadModel } from "../../pretrained/load-model.js";
import { encodeText } from "../../tokenizer/tokenizer.js";
import { readTextFile } from "../../util/files.js";
import { text } from "../arguments.js";
import { createBar } from "../bar.js";
import { UsageError } from "../failure.js";
import { inferenceOptions, quantizedTypes } from "../inference-options.js";
import { formatOf, writeModel } from "../written-model.js";

/** The types in which `heed quantize` can write numbers: those of GGUF files, and heed's own codes. */
const types = ["q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "int8", "int4"] as const;

/** The flags of `heed quantize`. */
interface QuantizeFlags {
  model: string;
  out: string;
  type: (typeof types)[number];
  groupSize?: `${GroupSize}`;
  calibrate?: string;
  device: string;
  force?: boolean;
}

/** Adds the arguments and the options of `heed quantize`. */
export function define(command: Command): Command {
  return command
    .requiredOption("--model <name>", "a folder, a file or a model on the hub, as for heed generate --model", text)
    .requiredOption("--out <name>", "the .gguf file to write, or for int8 and int4 the folder", text)
    .addOption(
      new Option(
        "--type <type>",
        "8.5 (q8_0), 6.6 (q6_k), 5.5 (q5_k) or 4.5 bits a weight (q4_k, q4_0) in a .gguf file, in which matrices whose rows do not fill blocks of 256 are in q8_0 or f16, with a notice; or heed's own codes of 8 or 4 bits (int8, int4) in a folder in Hugging Face's format",
      )
        .choices(types)
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
  $ heed quantize --model HuggingFaceTB/SmolLM2-135M --out smol.gguf
  $ heed quantize --model runs/book --out book.gguf --type q4_0 --calibrate book.txt
  $ heed quantize --model runs/book --out book-int4 --type int4 --group-size 64 --calibrate book.txt`,
    )
    .action(run);
}

/** Tokens of a calibration text that the model reads at a time, and the most that it reads. */
const [calibrated, mostCalibrated] = [512, 32_768];

/** Runs `heed quantize`: writes a model with matrices in fewer bits, as a GGUF file or a folder with heed's codes. */
async function run(flags: QuantizeFlags): Promise<void> {
  const { model: from, out: to, type, groupSize, calibrate, device, force = false } = flags;
  const own = isOwn(type);
  if (own && formatOf(to) !== "folder")
    throw new UsageError(`--out ${to}: expected the name of a folder for --type ${type}`);
  if (!own && formatOf(to) !== "gguf") throw new UsageError(`--out ${to}: expected the name of a .gguf file`);
  if (!own && groupSize !== undefined) throw new UsageError("--group-size: works only with --type int8 or int4");
  const text = calibrate === undefined ? null : await readTextFile(calibrate);
  // Beside its codes, a folder has the model's other numbers in f32.
  await writeModel({ out: to, dtype: own ? "f32" : type, force }, async () => {
    const loaded = await loadModel(from, { device, quantize: false });
    const texts = text === null ? null : await calibrationTexts(loaded, text);
    if (own) {
      const options = { bits: quantizedTypes[type], groupSize: Number(groupSize ?? 32) as GroupSize };
      await search(loaded.model, { ...options, texts: texts ?? [] });
    } else if (texts && type === "q4_0") {
      // Its blocks are heed's groups of 32 codes, so that the file has exactly the weights that GPTQ chose.
      await search(loaded.model, { bits: 4, groupSize: 32, texts });
      loaded.model.dequantize();
    } else if (texts) return { ...loaded, importance: await inputImportance(loaded.model, texts) };
    return loaded;
  });
}

type GroupSize = (typeof groupSizes)[number];

function isOwn(type: QuantizeFlags["type"]): type is keyof typeof quantizedTypes {
  return type in quantizedTypes;
}

/** Returns the tokens of a text in parts that the model reads one by one. */
async function calibrationTexts(
  { model, tokenizer }: Pick<LoadedParts["causal"], "model" | "tokenizer">,
  text: string,
): Promise<Int32Array[]> {
  if (!tokenizer) throw new UsageError(`--calibrate: expected a model with a tokenizer, got one without`);
  const tokens = (await encodeText(tokenizer, text)).subarray(0, mostCalibrated);
  const length = Math.min(calibrated, model.config.contextLength);
  return Array.from({ length: Math.ceil(tokens.length / length) }, (_, i) =>
    tokens.subarray(i * length, (i + 1) * length),
  );
}

/** Quantises a model with a bar of progress. */
async function search(model: Module, options: QuantizeBySearchOptions): Promise<void> {
  const bar = createBar("matrices");
  try {
    await quantizeBySearch(model, { ...options, onProgress: ({ quantized, total }) => bar.show(quantized, total) });
  } finally {
    bar.end();
  }
}
