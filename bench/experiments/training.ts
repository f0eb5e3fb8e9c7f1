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
  /** The share of the run done after so many steps and milliseconds of training; at 1 it ends. */
  progress: (steps: number, elapsed: number) => number;
  batchSize: number;
  contextLength: number;
  lr: number;
}

export interface Step {
  loss: number;
  /** Done so far, this one included, and the milliseconds they took: neither evaluation nor other models count. */
  steps: number;
  elapsed: number;
}

/** Trains by AdamW: a short warm-up, then half a cosine down to a tenth, by the share of the run that is done. */
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

/** Forward, backward and the optimizer's step; the loss before it. */
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

/** The loss on up to `batches` batches of held-out tokens. */
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
