import { checkDistributed } from "../distributed/options.js";
import type { FloatTensor } from "../core/tensor.js";
import { type Batch, Batches } from "../data/batches.js";
import { spread } from "./evaluate.js";
import { alone } from "./feed.js";
import { trainingFlops } from "./flops.js";
import { batchesOf } from "./position.js";
import { checkUndivided } from "../data/sequence-source.js";
import type { TrainableModel } from "./trainable-model.js";
import { checkTrainerOptions, type TrainerOptions } from "./trainer-options.js";
import type { Plan } from "./plan.js";
import { TrainingLoop } from "./training-loop.js";
import { checkTrainingOptions } from "./training-options.js";
import { WindowFeed } from "./window-feed.js";
import { windowTask } from "./window-task.js";

/**
 * Trainer of a model on a stream of tokens, or on packed examples. `TaskTrainer` trains other models on other tasks in
 * the same way.
 *
 * The device does not wait for the host: the loss is read while the backward pass runs, and the next step is enqueued
 * before the update has finished. A step whose loss cannot be read or is not finite changes nothing: parameters and
 * moments stay those of the step before. Batches, dropout masks and the learning rate follow from the seeds and the
 * step, so that a run resumed from a checkpoint continues bit for bit.
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3 });
 * for await (const event of trainer.run()) if (event.type === "step") console.log(event.step, event.loss);
 */
export class Trainer extends TrainingLoop<TrainableModel, Batch> {
  /**
   * @throws ERR_ARGUMENT if an option has the wrong type or value.
   * @throws ERR_RANGE if a number is out of range or there are too few tokens.
   * @throws ERR_FORMAT or ERR_SHAPE if the optimiser's state in `resume` does not fit the parameters to train.
   */
  constructor(options: TrainerOptions) {
    super(planOf(options));
  }
}

function planOf(options: TrainerOptions): Plan<TrainableModel, Batch> {
  const { batchSize, contextLength, documentStart, seed } = checkTrainerOptions(options);
  const { model, data, validation, resume, newData = false } = options;
  const windows = { batchSize, contextLength, documentStart };
  const batches = batchesOf(
    (version) => new Batches(data, { ...windows, seed, version }),
    resume?.state ?? null,
    newData,
  );
  const heldOut = validation ? new Batches(validation, { ...windows, shuffle: false }) : null;
  const distributed = checkDistributed("Trainer", options.distributed);
  const { rank, size } = distributed?.collectives ?? alone;
  const share = { rank, size };
  checkUndivided("Trainer", "data", data, size);
  checkUndivided("Trainer", "validation", validation, size);
  const settings = checkTrainingOptions("Trainer", model, options, {
    validates: heldOut !== null,
    epoch: { items: batches.windows, perBatch: batchSize * size },
  });
  const { layers, width } = model.config as { layers?: number; width?: number };
  return {
    op: "Trainer",
    model,
    device: model.device,
    task: windowTask(contextLength),
    feed: new WindowFeed(batches, resume?.state ?? null, newData, share),
    validation: heldOut && (() => spread(heldOut, settings.evalBatches, share)),
    ...{ data, held: validation ?? null, cut: windows },
    settings,
    options,
    distributed,
    flopsPerToken: layers && width ? trainingFlops(model, { layers, width, contextLength }, tiedHead(model)) : null,
  };
}

/** Returns the token embedding if it is the projection to logits as well, or null. */
function tiedHead(model: TrainableModel): FloatTensor | null {
  const {
    lm_head: head,
    wte,
    model: inner,
  } = model as {
    lm_head?: unknown;
    wte?: { weight: FloatTensor };
    model?: { embed_tokens?: { weight: FloatTensor } };
  };
  return head === null ? ((wte ?? inner?.embed_tokens)?.weight ?? null) : null;
}
