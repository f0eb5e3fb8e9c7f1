// A task that fails in the second of two processes. Both learn of it and go on. Then the JavaScript thread of the second
// hangs, and the first ends both.
const heed = await import(process.env.HEED_INDEX);
heed.setThreads(1);
const collectives = await heed.Collectives.open({ timeout: 1 });
const { rank } = collectives;

class Line extends heed.Module {
  weight = heed.parameter(heed.zeros([2, 1], { device: "cpu" }));
}
const model = new Line();
let bad = rank === 1;
const task = (model, { x, y }, { device }) => {
  if (bad) throw new Error("the batch of rank 1 is bad");
  const error = heed.sub(
    heed.matmul(heed.tensor(x, [1, 2], { device }), model.weight),
    heed.tensor(y, [1, 1], { device }),
  );
  return heed.mean(heed.square(error));
};
const data = [0, 1, 2, 3].map((i) => ({ x: [i, 1], y: [2 * i + 1] }));
const trainer = new heed.TaskTrainer({ model, task, data, steps: 3, lr: 0.1, distributed: { collectives } });
await trainer.train().then(
  () => console.error("expected an error"),
  (error) => console.error(rank === 0 ? `both: ${error.message}` : ""),
);
bad = false;
const { step } = await trainer.train();
if (step !== 3) console.error(`expected 3 steps, got ${step}`);

trainer.dispose();
const later = new heed.TaskTrainer({ model, task, data, steps: 1000, lr: 0.1, distributed: { collectives } });
await later.train({
  onStep: ({ step }) => {
    const until = performance.now() + (step === 3 && rank === 1 ? 20_000 : 0);
    while (performance.now() < until);
  },
});
