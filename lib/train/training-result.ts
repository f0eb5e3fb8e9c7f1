import type { TrainerCallbacks, TrainerEvent, TrainingResult } from "./events.js";

/** Resolves to the result of a run that has done `step` steps before, and calls the callbacks with its events. */
export async function trainingResult(
  events: AsyncIterable<TrainerEvent>,
  step: number,
  callbacks: TrainerCallbacks,
): Promise<TrainingResult> {
  const { onStep, onEvaluation, onCheckpoint, onCheckpointFailed, onReturn } = callbacks;
  const result: TrainingResult = { step, loss: null, evaluation: null, checkpoint: null, aborted: false };
  for await (const event of events) {
    result.step = event.step;
    if (event.type === "step") {
      result.loss = event.loss;
      onStep?.(event);
    } else if (event.type === "evaluation") {
      const { loss, perplexity, tokens } = event;
      result.evaluation = { loss, perplexity, tokens };
      onEvaluation?.(event);
    } else if (event.type === "checkpoint") {
      if (!event.best) result.checkpoint = event.path;
      onCheckpoint?.(event);
    } else if (event.type === "checkpoint-failed") onCheckpointFailed?.(event);
    else if (event.type === "returned") onReturn?.(event);
    else result.aborted = event.type === "aborted";
  }
  return result;
}
