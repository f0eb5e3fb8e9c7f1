// Writes models of random weights into files, so that peers run the same models.
import { existsSync, mkdirSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type GgufWritable, type GPT, Gpt2Tokenizer, type Model, saveGguf, writeSafetensors } from "heed";

const folder = fileURLToPath(new URL("../peers/models", import.meta.url));

/** Returns the path of a model's file, which need not exist yet. */
export function modelFile(name: string): string {
  return path.join(folder, name);
}

/** Writes the parameters as safetensors in f32, under heed's names. */
export async function writeWeights(file: string, create: () => Model): Promise<void> {
  await writing(file, async () => {
    const model = create();
    const tensors = [...model.namedParameters()].map(([name, tensor]) => {
      return { name, dtype: "F32", shape: tensor.shape, data: () => tensor.data() } as const;
    });
    await writeSafetensors(file, tensors);
    model.dispose();
  });
}

/** Writes a GGUF file for llama.cpp. */
export async function writeLlama(file: string, type: GgufWritable, create: () => GPT): Promise<void> {
  await writing(file, async () => {
    const model = create();
    await saveGguf(file, model, { tokenizer: await Gpt2Tokenizer.load(), type, name: path.basename(file, ".gguf") });
    model.dispose();
  });
}

async function writing(file: string, write: () => Promise<void>): Promise<void> {
  if (existsSync(file)) return;
  mkdirSync(folder, { recursive: true });
  await write();
}

/** Removes the files, because the next run may be of another version of heed. */
export function removeModels(): void {
  rmSync(folder, { recursive: true, force: true });
}
