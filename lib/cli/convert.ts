import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import { activeAdapter, mergeAdapter } from "../adapters/adapters.js";
import { readTextFile } from "../util/files.js";
import { type InputImportance, inputImportance } from "../pretrained/input-importance.js";
import { type GgufFallback, saveGguf } from "../pretrained/gguf/save-gguf.js";
import type { Module } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import type { groupSizes } from "../ops/quantize.js";
import { quantizeBySearch, type QuantizeBySearchOptions } from "../pretrained/gptq/quantize-by-search.js";
import { type LoadedParts, loadModel } from "../pretrained/load-model.js";
import { saveLlama2c } from "../pretrained/families/save-llama2c.js";
import { savePretrained } from "../pretrained/save-pretrained.js";
import { encodeText } from "../tokenizer/tokenizer.js";
import { trainedOver } from "../train/checkpoint.js";
import { createBar } from "./bar.js";
import type { ConvertFlags, MergeFlags, QuantizeFlags } from "./convert-flags.js";
import { UsageError } from "./failure.js";
import { quantizedTypes } from "./inference-options.js";
import type { SaveProgress } from "../pretrained/save-progress.js";

/** Runs `heed convert`: writes a model in another format. */
export async function run(flags: ConvertFlags): Promise<void> {
  // The parameters only pass through the host's memory, so no other device is needed.
  await write(flags, () => loadModel(flags.from, { device: "cpu", quantize: false }));
}

/** Tokens of a calibration text that the model reads at a time, and the most that it reads. */
const [calibrated, mostCalibrated] = [512, 32_768];

/** Runs `heed quantize`: writes a model with matrices in fewer bits, as a GGUF file or a folder with heed's codes. */
export async function quantize(flags: QuantizeFlags): Promise<void> {
  const { model: from, to, type, groupSize, calibrate, device, force = false } = flags;
  const own = isOwn(type);
  if (own && formatOf(to) !== "folder")
    throw new UsageError(`--to ${to}: expected the name of a folder for --type ${type}`);
  if (!own && formatOf(to) !== "gguf") throw new UsageError(`--to ${to}: expected the name of a .gguf file`);
  if (!own && groupSize !== undefined) throw new UsageError("--group-size: works only with --type int8 or int4");
  const text = calibrate === undefined ? null : await readTextFile(calibrate);
  // Beside its codes, a folder has the model's other numbers in f32.
  await write({ to, dtype: own ? "f32" : type, force }, async () => {
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

/** Runs `heed merge`: writes a model with an adapter as a model without one. */
export async function merge({ model: from, adapter, quantize, ...flags }: MergeFlags): Promise<void> {
  const bits = quantize && quantizedTypes[quantize];
  const trained = adapter === undefined ? await trainedOver(from) : null;
  await write(flags, async () => {
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

async function write(
  { to, dtype, force = false }: Omit<ConvertFlags, "from">,
  load: () => Promise<LoadedParts["causal"] & { importance?: InputImportance }>,
): Promise<void> {
  const format = formatOf(to);
  if (dtype.startsWith("q") && format !== "gguf")
    throw new UsageError(`--dtype ${dtype}: works only if --to ends in .gguf`);
  if (dtype !== "f32" && format === "llama2c") throw new UsageError(`--dtype ${dtype}: llama2.c files store f32 only`);
  const written = format === "llama2c" ? [to, path.join(path.dirname(to), "tokenizer.bin")] : [to];
  for (const name of force ? [] : written)
    if (await isTaken(name)) throw new UsageError(`--to ${to}: ${name} exists already; add --force to replace it`);
  await mkdir(path.dirname(path.resolve(to)), { recursive: true });
  const loaded = await load();
  const bar = createBar("tensors");
  const fallbacks: GgufFallback[] = [];
  try {
    await save(loaded, {
      ...{ to, format, dtype, force },
      onFallback: (fallback) => fallbacks.push(fallback),
      onProgress: ({ written, total }) => bar.show(written, total),
    });
  } finally {
    bar.end();
    loaded.model.dispose();
  }
  for (const line of fallbackLines(dtype, fallbacks)) console.log(line);
  const without = loaded.tokenizer ? "" : ", without a tokenizer, because the model has none";
  console.log(`saved in ${to}${without}; try: heed generate --model ${to} "…"`);
}

type Format = "gguf" | "llama2c" | "folder";

function formatOf(to: string): Format {
  if (to.endsWith(".gguf")) return "gguf";
  return to.endsWith(".bin") ? "llama2c" : "folder";
}

interface Target {
  to: string;
  format: Format;
  dtype: ConvertFlags["dtype"];
  force: boolean;
  onFallback: (fallback: GgufFallback) => void;
  onProgress: (progress: SaveProgress) => void;
}

async function save(
  { model, tokenizer, defaults, importance }: LoadedParts["causal"] & { importance?: InputImportance },
  { to, format, dtype, force, onFallback, onProgress }: Target,
): Promise<void> {
  if (format === "llama2c") return saveLlama2c(to, model, { tokenizer, onProgress });
  if (format === "gguf") {
    return saveGguf(to, model, {
      tokenizer,
      defaults,
      type: dtype.toUpperCase() as Uppercase<typeof dtype>,
      ...(importance && { importance }),
      name: path.basename(to, ".gguf"),
      ...{ onFallback, onProgress },
    });
  }
  await savePretrained(to, model, {
    tokenizer,
    defaults,
    dtype: dtype as Exclude<typeof dtype, `q${string}`>,
    overwrite: force,
    onProgress,
  });
}

/**
 * Says which matrices are stored in another type than `dtype`, in a line for each type and length of rows. The same matrix
 * of several layers is named once.
 */
function fallbackLines(dtype: string, fallbacks: readonly GgufFallback[]): string[] {
  const lines = new Map<string, Map<string, number>>();
  for (const { name, shape, type } of fallbacks) {
    const line = `${type.toLowerCase()} instead of ${dtype}, whose blocks do not fit rows of ${shape.at(-1)}`;
    const matrix = `${name.replace(/\.\d+\./, ".*.")} [${shape.join(", ")}]`;
    const matrices = lines.get(line) ?? new Map<string, number>();
    lines.set(line, matrices.set(matrix, (matrices.get(matrix) ?? 0) + 1));
  }
  return [...lines].map(
    ([line, matrices]) => `stored in ${line}: ${[...matrices].map(([name, count]) => `${count} × ${name}`).join("; ")}`,
  );
}

/** Returns true if there is a file, or a folder that is not empty. */
async function isTaken(name: string): Promise<boolean> {
  return readdir(name).then(
    (entries) => entries.length > 0,
    (error: unknown) => (error as NodeJS.ErrnoException).code !== "ENOENT",
  );
}
