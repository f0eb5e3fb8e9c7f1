// Trains two steps on a device whose kernels take their time, with gradients in small buckets. The software NCCL writes down
// when operations begin and end.
const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const collectives = await heed.Collectives.open();
const size = { vocabularySize: 11, contextLength: 8, layers: 4, heads: 2, width: 16 };
const model = new heed.GPT(size, { seed: 1, device: process.env.HEED_TEST_DEVICE });
const data = heed.tokenData(Uint8Array.from({ length: 300 }, (_, i) => i % 11));
const distributed = { collectives, bucketBytes: 8192 };
const trainer = new heed.Trainer({ model, data, steps: 2, batchSize: 2, distributed });
for await (const event of trainer.run())
  if (event.type === "step" && collectives.rank === 0) console.log(`step ${event.step}`);
trainer.dispose();
