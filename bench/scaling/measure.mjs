// Measures in several processes: `measure.mjs allreduce BYTES…` and `measure.mjs train SECONDS WIDTH LAYERS BATCH`. The
// first process writes a line of JSON.
import { Collectives, GPT, launched, ones, setThreads, device as deviceOf, tokenData, Trainer } from "heed";

setThreads(1);
const [, , task, ...given] = process.argv;
const collectives = launched() ? await Collectives.open() : null;
const device = deviceOf("cpu");
const { rank = 0, size = 1 } = collectives ?? {};

/** Returns the median of the seconds that an all-reduce takes, from a barrier until the slowest process has it. */
async function allReduce(bytes) {
  const tensor = ones([Math.max(1, bytes / 4)], { device });
  const times = [];
  const rounds = bytes > 1e7 ? 15 : 40;
  for (let i = 0; i < rounds; i++) {
    await collectives.barrier();
    const started = performance.now();
    collectives.allReduce(tensor).wait();
    await device.synchronize();
    const [slowest] = await collectives.sum(Float64Array.of(performance.now() - started), { reduction: "max" });
    times.push(slowest / 1000);
  }
  tensor.dispose();
  return times.sort((a, b) => a - b)[rounds >> 1];
}

/** Returns the tokens per second of all processes together, without the first steps. */
async function train(seconds, width, layers, batchSize) {
  const config = { vocabularySize: 256, contextLength: 128, layers, heads: width / 32, width };
  const model = new GPT(config, { seed: 1, device: "cpu" });
  const data = tokenData(Uint8Array.from({ length: 100_000 }, (_, i) => (i * i + (i >> 3)) % 251));
  const distributed = collectives ? { collectives } : undefined;
  const trainer = new Trainer({ model, data, batchSize, steps: 1e6, maxSeconds: seconds, distributed });
  let [tokens, from] = [0, 0];
  for await (const event of trainer.run()) {
    if (event.type !== "step") continue;
    if (event.step === 3) from = performance.now();
    else if (event.step > 3) tokens += size * batchSize * config.contextLength;
  }
  const tokensPerSecond = (tokens * 1000) / (performance.now() - from);
  const parameters = model.parameterCount();
  trainer.dispose();
  model.dispose();
  return { tokensPerSecond, parameters };
}

const numbers = given.map(Number);
const result =
  task === "train"
    ? await train(...numbers)
    : await numbers.reduce(async (all, bytes) => ({ ...(await all), [bytes]: await allReduce(bytes) }), {});
if (rank === 0) console.log(JSON.stringify({ size, version: collectives?.version ?? null, result }));
collectives?.close();
