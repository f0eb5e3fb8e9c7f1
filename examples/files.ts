// Writes a model in Hugging Face's format, looks into the file, changes a weight, and reads the model back.
//
//   node examples/files.ts
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ByteTokenizer, GPT, load, readSafetensors, savePretrained } from "heed";

const folder = await mkdtemp(path.join(tmpdir(), "heed-example-"));
const tokenizer = new ByteTokenizer();
using model = new GPT(
  { vocabularySize: tokenizer.vocabularySize, contextLength: 32, layers: 2, heads: 2, width: 32 },
  { seed: 1 },
);
await savePretrained(folder, model, { dtype: "bf16" });

{
  await using file = await readSafetensors(path.join(folder, "model.safetensors"));
  for (const [name, { dtype, shape }] of [...file.tensors].slice(0, 4)) console.log(name, dtype, shape);
}

using loaded = await load(folder, { kind: "causal", tokenizer });
const weights = loaded.model.stateDict();
const [name, weight] = Object.entries(weights)[0]!;
weight.set((await weight.data()).map((value) => value / 2));
console.log(`halved ${name}, [${weight.shape.join(", ")}]`);

await savePretrained(folder, loaded.model, { overwrite: true });
const { text } = await loaded.generate("heed", { maxTokens: 8, seed: 1 });
console.log(JSON.stringify(text));
await rm(folder, { recursive: true });
