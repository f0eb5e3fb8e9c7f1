import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { activeAdapter, mergeAdapter } from "../adapters/adapters.js";
import { saveGguf } from "../pretrained/gguf/save-gguf.js";
import { type LoadedParts, loadModel } from "../pretrained/load-model.js";
import { saveLlama2c } from "../pretrained/save-llama2c.js";
import { savePretrained } from "../pretrained/save-pretrained.js";
import { trainedOver } from "../train/checkpoint.js";
import { createBar } from "./bar.js";
import type { ConvertFlags, MergeFlags } from "./convert-flags.js";
import { UsageError } from "./failure.js";
import { quantizedTypes } from "./inference-options.js";
import type { SaveProgress } from "../pretrained/save-progress.js";

/** Runs `heed convert`: writes a model in another format. */
export async function run(flags: ConvertFlags): Promise<void> {
  // The parameters only pass through the host's memory, so no other device is needed.
  await write(flags, () => loadModel(flags.from, { device: "cpu" }));
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
    const options = { ...(adapter !== undefined && { adapter }), ...(bits && { quantize: bits }) };
    const loaded = await loadModel(from, { device: "cpu", ...options });
    if (activeAdapter(loaded.model) === null)
      throw new UsageError(`--model ${from}: expected a model with an adapter, got one without; see --adapter`);
    mergeAdapter(loaded.model.dequantize());
    return loaded;
  });
}

async function write(
  { to, dtype, force = false }: Omit<ConvertFlags, "from">,
  load: () => Promise<LoadedParts["causal"]>,
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
  try {
    await save(loaded, { to, format, dtype, force, onProgress: ({ written, total }) => bar.show(written, total) });
  } finally {
    bar.end();
    loaded.model.dispose();
  }
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
  onProgress: (progress: SaveProgress) => void;
}

async function save(
  { model, tokenizer, defaults }: LoadedParts["causal"],
  { to, format, dtype, force, onProgress }: Target,
): Promise<void> {
  if (format === "llama2c") return saveLlama2c(to, model, { tokenizer, onProgress });
  if (format === "gguf") {
    const type = { f32: "F32", bf16: "BF16", f16: "F16", q8_0: "Q8_0", q4_0: "Q4_0" } as const;
    return saveGguf(to, model, {
      tokenizer,
      defaults,
      type: type[dtype],
      name: path.basename(to, ".gguf"),
      onProgress,
    });
  }
  await savePretrained(to, model, {
    tokenizer,
    defaults,
    dtype: dtype as Exclude<typeof dtype, "q8_0" | "q4_0">,
    overwrite: force,
    onProgress,
  });
}

/** Returns true if there is a file, or a folder that is not empty. */
async function isTaken(name: string): Promise<boolean> {
  return readdir(name).then(
    (entries) => entries.length > 0,
    (error: unknown) => (error as NodeJS.ErrnoException).code !== "ENOENT",
  );
}
