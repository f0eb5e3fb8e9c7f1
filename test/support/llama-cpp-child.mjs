// Runs llama.cpp in a process of its own, because its assertions end the process. It reads a request from the parent,
// answers it and ends. The addon is node-llama-cpp's for a CPU, used without that package's TypeScript
// (test/peers/package.json).
import { createRequire } from "node:module";
import path from "node:path";
import { getBinsDir } from "@node-llama-cpp/linux-x64";

const folder = path.join(getBinsDir().binsDir, "linux-x64");
const llama = createRequire(import.meta.url)(path.join(folder, "llama-addon.node"));

const log = [];
llama.markLoaded();
llama.setLogger((level, message) => level <= 3 && log.push(message.trim()));
llama.loadBackends(folder);
await llama.init();

/** Returns the logarithms of the probabilities of all tokens after each of these tokens. */
async function logProbabilities(model, ids) {
  const context = new llama.AddonContext(model, {
    contextSize: Math.max(256, ids.length),
    batchSize: ids.length,
    sequences: 1,
    threads: 1,
    flashAttention: false,
    // F32, in which heed also keeps its keys and values.
    kvCacheKeyType: 0,
    kvCacheValueType: 0,
  });
  if (!(await context.init())) throw new Error("no context");
  context.initBatch(ids.length);
  const positions = Uint32Array.from(ids, (_, i) => i);
  const outputs = context.addToBatch(0, 0, Uint32Array.from(ids), positions);
  await context.decodeBatch();
  const sampler = new llama.AddonSampler(model);
  sampler.applyConfig({ temperature: 0 });
  const rows = [];
  for (const output of outputs) {
    const [, pairs] = await context.sampleToken(output, sampler, true);
    const row = [];
    for (let i = 0; i < pairs.length; i += 2) row[pairs[i]] = Math.log(pairs[i + 1]);
    rows.push(row);
  }
  return rows;
}

process.once("message", async ({ file, vocabOnly, texts, special, decode, ids, ends }) => {
  try {
    const model = new llama.AddonModel(file, { addonExports: llama, vocabOnly, gpuLayers: 0, useMmap: false });
    if (!(await model.init())) throw new Error("the model does not load");
    const answer = {
      // The caller must add the beginning and end of a text, because the library leaves them out.
      tokens: texts?.map((text) => [...model.tokenize(text, special)]),
      decoded: decode?.map((list) => model.detokenize(Uint32Array.from(list), false)),
      rows: ids && (await logProbabilities(model, ids)),
      begins: model.shouldPrependBosToken(),
      ended: model.shouldAppendEosToken(),
      bos: model.tokenBos(),
      eos: model.tokenEos(),
      ends: ends?.map((id) => model.isEogToken(id)),
    };
    process.send({ answer }, () => process.exit(0));
  } catch (error) {
    process.send({ failure: [String(error.message ?? error), ...log].join("; ") }, () => process.exit(0));
  }
});
