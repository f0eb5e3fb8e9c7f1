import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { activeAdapter, mergeAdapter } from "../adapters/adapters.js";
import { readTextFile } from "../files.js";
import { type InputImportance, inputImportance } from "../pretrained/input-importance.js";
import { type GgufFallback, saveGguf } from "../pretrained/gguf/save-gguf.js";
import { quantizeBySearch } from "../pretrained/gptq/quantize-by-search.js";
import { type LoadedParts, loadModel } from "../pretrained/load-model.js";
import { saveLlama2c } from "../pretrained/save-llama2c.js";
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

/** Runs `heed quantize`: writes a model as a GGUF file with matrices in fewer bits. */
export async function quantize(flags: QuantizeFlags): Promise<void> {
  const { model: from, to, type, calibrate, device, force = false } = flags;
  if (formatOf(to) !== "gguf") throw new UsageError(`--to ${to}: expected the name of a .gguf file`);
  const text = calibrate === undefined ? null : await readTextFile(calibrate);
  const target = { to, dtype: type, force };
  await write(target, async () => {
    const loaded = await loadModel(from, { device, quantize: false });
    if (text === null) return loaded;
    const { model, tokenizer } = loaded;
    if (!tokenizer) throw new UsageError(`--calibrate: expected a model with a tokenizer, got one without`);
    const tokens = (await encodeText(tokenizer, text)).subarray(0, mostCalibrated);
    const length = Math.min(calibrated, model.config.contextLength);
    const parts = Array.from({ length: Math.ceil(tokens.length / length) }, (_, i) =>
      tokens.subarray(i * length, (i + 1) * length),
    );
    if (type !== "q4_0") return { ...loaded, importance: await inputImportance(model, parts) };
    // Its blocks are heed's groups of 32 codes, so that the file has exactly the weights that GPTQ chose.
    const bar = createBar("matrices");
    try {
      const onProgress = ({ quantized, total }: { quantized: number; total: number }): void =>
        bar.show(quantized, total);
      await quantizeBySearch(model, { bits: 4, groupSize: 32, texts: parts, onProgress });
    } finally {
      bar.end();
    }
    model.dequantize();
    return loaded;
  });
}

/** Runs `heed merge`: writes a model with an adapter as a model without one. */
export async function merge({ model: from, adapter, quantize, ...flags }: MergeFlags): Promise<void> {
  const bits = quantize && quantizedTypes[quantize];
  const trained = adapter === undefined ? await trainedOver(from) : null;
  if (trained && !bits)
    console.log(
      `the adapter was trained over weights in ${trained.bits} bits; it is merged into the model's own weights, which are more precise. With --quantize int${trained.bits} it is merged into the rounded ones`,
    );
  await write(flags, async () => {
    const options = { ...(adapter !== undefined && { adapter }), quantize: bits ?? false } as const;
    const loaded = await loadModel(from, { device: "cpu", ...options });
    if (activeAdapter(loaded.model) === null)
      throw new UsageError(`--model ${from}: expected a model with an adapter, got one without; see --adapter`);
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
