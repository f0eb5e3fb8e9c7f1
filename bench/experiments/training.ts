import {
  AdamW,
  Batches,
  type FloatTensor,
  type IntTensor,
  type Module,
  noGrad,
  scope,
  tensor,
  type TokenSource,
} from "heed";

/** A model that predicts the next token. */
export interface LanguageModel extends Module {
  loss(ids: IntTensor, targets: IntTensor): FloatTensor;
}

export interface Training {
  model: LanguageModel;
  data: TokenSource;
  /** Returns the share of the run that is done after so many steps and milliseconds of training. At 1 the run ends. */
  progress: (steps: number, elapsed: number) => number;
  batchSize: number;
  contextLength: number;
  lr: number;
}

export interface Step {
  loss: number;
  /** Number of steps so far, with this one. */
  steps: number;
  /** Milliseconds that these steps took. Evaluation and other models do not count. */
  elapsed: number;
}

/** Trains with AdamW. After a short warm-up the learning rate falls along half a cosine to a tenth at the end. */
export async function* train(training: Training): AsyncGenerator<Step, void, undefined> {
  const { model, data, progress, batchSize, contextLength, lr } = training;
  const batches = new Batches(data, { batchSize, contextLength, seed: 1 });
  using optimizer = new AdamW(model.namedParameters(), { lr, beta2: 0.95, weightDecay: 0.1, maxNorm: 1 });
  let elapsed = 0;
  for (let steps = 0; ;) {
    const done = progress(steps, elapsed);
    if (done >= 1) return;
    optimizer.lr = lr * Math.min(1, (steps + 1) / 50) * (0.55 + 0.45 * Math.cos(Math.PI * done));
    const start = performance.now();
    const { inputs, targets } = batches.batch(steps);
    const shape = [batchSize, contextLength];
    using ids = tensor(inputs, shape);
    using following = tensor(targets, shape);
    const loss = await stepOf(model, optimizer, ids, following);
    elapsed += performance.now() - start;
    yield { loss, steps: ++steps, elapsed };
  }
}

/** Runs the forward pass, the backward pass and the optimizer's step. Returns the loss before the step. */
export async function stepOf(
  model: LanguageModel,
  optimizer: AdamW,
  ids: IntTensor,
  targets: IntTensor,
): Promise<number> {
  using loss = scope(() => {
    const loss = model.loss(ids, targets);
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    return loss;
  });
  return await loss.item();
}

/** Returns the mean loss of up to `size.batches` batches of held-out tokens. */
export async function evaluateLoss(
  model: LanguageModel,
  data: TokenSource,
  size: { batchSize: number; contextLength: number; batches: number },
): Promise<number> {
  const { batchSize, contextLength } = size;
  const source = new Batches(data, { batchSize, contextLength, shuffle: false });
  const count = Math.min(size.batches, source.batchesPerEpoch);
  const { training } = model;
  model.eval();
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const { inputs, targets } = source.batch(Math.floor((i * source.batchesPerEpoch) / count));
    const shape = [batchSize, contextLength];
    using loss = noGrad(() => scope(() => model.loss(tensor(inputs, shape), tensor(targets, shape))));
    sum += await loss.item();
  }
  if (training) model.train();
  return sum / count;
}
