// The models and runs of test/distributed, for vitest's process and for those that mpirun starts.

const size = { vocabularySize: 11, contextLength: 8, layers: 2, heads: 2, width: 16 };

/** Returns the ids to train on. */
export const ids = Uint8Array.from({ length: 700 }, (_, i) => (i * i + (i >> 3)) % 11);

/** Returns a model by its name. */
export function make(heed, name, device = "cpu", seed = 1) {
  if (name === "llama") return new heed.Llama({ ...size, kvHeads: 1, feedForwardWidth: 32 }, { seed, device });
  const model = new heed.GPT(size, { seed, device });
  if (name === "lora") heed.addAdapter(model, { rank: 2, seed: 3 });
  if (name === "checkpointed") model.gradientCheckpointing = true;
  return model;
}

/** Runs of the processes together, by name. `batchSize` counts for each process. */
export const runs = {
  gpt: { model: "gpt", settings: { gradientAccumulation: 2 } },
  zero: { model: "gpt", settings: { gradientAccumulation: 2 }, distributed: { zero: true, bucketBytes: 2048 } },
  llama: { model: "llama", distributed: { bucketBytes: 4096 } },
  lora: { model: "lora", distributed: { bucketBytes: 512 } },
  muon: { model: "llama", settings: { optimizer: { type: "muon" }, ema: 0.9 } },
  "muon zero": { model: "llama", settings: { optimizer: { type: "muon" }, ema: 0.9 }, distributed: { zero: true } },
  checkpointed: { model: "checkpointed", distributed: { bucketBytes: 1024 } },
  bf16: { model: "gpt", distributed: { wire: "bf16" } },
};

/**
 * Trains, and returns the losses of the steps and of the evaluation, the weights, the bytes of the optimiser's state, and
 * the bytes that the device has back when the trainer is disposed.
 */
export async function train(heed, { model: name, settings = {} }, { device, ...more } = {}) {
  // All processes begin with the weights of the first, whatever theirs are.
  const model = more.resume?.model ?? make(heed, name, device, 1 + (more.distributed?.collectives.rank ?? 0));
  const { train, validation } = heed.splitSource(heed.tokenData(ids), 0.3);
  const options = { batchSize: 2, steps: 4, lr: 1e-2, seed: 5, evalBatches: 3, ...settings, ...more };
  const trainer = new heed.Trainer({ model, data: train, validation, ...options });
  const losses = [];
  let evaluation = null;
  let memory = 0;
  for await (const event of trainer.run()) {
    if (event.type === "step") losses.push(event.loss, event.gradientNorm);
    if (event.type === "evaluation") evaluation = event.loss;
  }
  for (const state of Object.values(trainer.optimizer.stateDict())) memory += 4 * state.size;
  const weights = {};
  for (const [key, tensor] of model.namedParameters()) weights[key] = [...(await tensor.data())];
  const whole = model.device.memory().live;
  trainer.dispose();
  const held = whole - model.device.memory().live;
  model.dispose();
  return { losses, evaluation, weights, memory, held };
}
