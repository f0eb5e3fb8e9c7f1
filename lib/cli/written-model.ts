import { type Command, Option } from "commander";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { saveLlama2c } from "../pretrained/families/save-llama2c.js";
import { type GgufFallback, saveGguf } from "../pretrained/gguf/save-gguf.js";
import type { InputImportance } from "../pretrained/input-importance.js";
import type { LoadedParts } from "../pretrained/load-model.js";
import { savePretrained } from "../pretrained/save-pretrained.js";
import type { SaveProgress } from "../pretrained/save-progress.js";
import { text } from "./arguments.js";
import { createBar } from "./bar.js";
import { UsageError } from "./failure.js";

/** The types in which a model can be written. */
const types = ["f32", "bf16", "f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"] as const;

/** The flags about the model that a command writes. */
export interface OutputFlags {
  out: string;
  dtype: (typeof types)[number];
  force?: boolean;
}

/** Adds the options about the model that a command writes. */
export function addOutput(command: Command): Command {
  return command
    .requiredOption(
      "--out <name>",
      "a folder in Hugging Face's format, or a file that ends in .gguf or .bin (llama2.c)",
      text,
    )
    .addOption(
      new Option("--dtype <type>", "type of the numbers in the new file; those that begin with q need a .gguf file")
        .choices(types)
        .default("f32"),
    )
    .option("--force", "replace an existing file or folder");
}

/** Writes the model that a function loads, and disposes it. */
export async function writeModel(
  { out: to, dtype, force = false }: OutputFlags,
  load: () => Promise<LoadedParts["causal"] & { importance?: InputImportance }>,
): Promise<void> {
  const format = formatOf(to);
  if (dtype.startsWith("q") && format !== "gguf")
    throw new UsageError(`--dtype ${dtype}: works only if --out ends in .gguf`);
  if (dtype !== "f32" && format === "llama2c") throw new UsageError(`--dtype ${dtype}: llama2.c files store f32 only`);
  const written = format === "llama2c" ? [to, path.join(path.dirname(to), "tokenizer.bin")] : [to];
  for (const name of force ? [] : written)
    if (await isTaken(name)) throw new UsageError(`--out ${to}: ${name} exists already; add --force to replace it`);
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

/** Returns the format that a name stands for. */
export function formatOf(to: string): Format {
  if (to.endsWith(".gguf")) return "gguf";
  return to.endsWith(".bin") ? "llama2c" : "folder";
}

interface Target {
  to: string;
  format: Format;
  dtype: OutputFlags["dtype"];
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
