import type { Evaluation } from "./evaluate.js";

/** Event after each step. The events of all steps come in order. */
export interface StepEvent {
  type: "step";
  /** Number of steps done, over all sessions. */
  step: number;
  /** Mean loss of the step's targets before the step changed the model: in nats per token for language models. */
  loss: number;
  /** Learning rate of the step. */
  lr: number;
  /** Global norm of the gradients before clipping; null without clipping. */
  gradientNorm: number | null;
  /** True if the step did not change the model, because the gradients' norm is not finite. */
  skipped: boolean;
  /** Factor of the loss in the step's backward pass, in f16; null in other dtypes. */
  lossScale: number | null;
  /** Number of epochs read; with their share of the present one if the length of an epoch is known. */
  epoch: number;
  /** Largest number of bytes that tensors have taken on the device so far (`device.memory().peak`). */
  memory: number;
  /**
   * Share of the device's floating-point operations that the model uses (MFU), without those of recomputed activations;
   * null if the peak of the device or the model's operations are unknown.
   */
  mfu: number | null;
  /** Training speed, smoothed over the steps; evaluations and checkpoints do not count. */
  tokensPerSecond: number;
  /** Share of the run that is done, from 0 to 1, by its steps or its time, whichever is larger. */
  progress: number;
  /** Estimated seconds until the run's end. */
  secondsLeft: number;
}

/** Event after an evaluation on the held-out tokens. */
export interface EvaluationEvent extends Evaluation {
  type: "evaluation";
  /** Number of steps done, over all sessions. */
  step: number;
  /** True if every evaluation of the run before had a higher loss. An evaluation without targets is never best. */
  best: boolean;
}

/** Event after a checkpoint has been saved. */
export interface CheckpointEvent {
  type: "checkpoint";
  /** Number of steps done, over all sessions. */
  step: number;
  /** Folder of the checkpoint. */
  path: string;
  /** True if it is the checkpoint of the best model, which is kept apart. */
  best: boolean;
}

/** Event after the run has returned to a checkpoint because of a spike in the loss. */
export interface ReturnedEvent {
  type: "returned";
  /** Number of steps done now, which is that of the checkpoint. */
  step: number;
  /** Number of steps done before. */
  from: number;
  /** Loss of the spike. */
  loss: number;
  /** Folder of the checkpoint. */
  path: string;
}

/**
 * Event after a checkpoint could not be saved, for example because the disk is full. The run continues, earlier
 * checkpoints stay, and the next save is tried when it is due.
 */
export interface CheckpointFailedEvent {
  type: "checkpoint-failed";
  /** Number of steps done, over all sessions. */
  step: number;
  /** Message of the error. */
  message: string;
  /** Number of saves in a row that have failed, this one included. */
  failures: number;
}

/** Event at the end of a run that its signal ended. The events of its last checkpoint came before. */
export interface AbortedEvent {
  type: "aborted";
  /** Number of steps done, over all sessions. */
  step: number;
}

/** Event at the end of a run that has done all its steps or used its time. */
export interface FinishedEvent {
  type: "finished";
  /** Number of steps done, over all sessions. */
  step: number;
  /** Seconds that the run took, over all sessions. */
  seconds: number;
  /** True if it ended before its last step because evaluations no longer improved. */
  early: boolean;
}

/** Event of a training run; `type` tells the kinds apart. */
export type TrainerEvent =
  StepEvent | EvaluationEvent | CheckpointEvent | CheckpointFailedEvent | ReturnedEvent | AbortedEvent | FinishedEvent;

/** Functions that `Trainer.train` calls with the events. */
export interface TrainerCallbacks {
  /** Called after each step. */
  onStep?: (event: StepEvent) => void;
  /** Called after each evaluation. */
  onEvaluation?: (event: EvaluationEvent) => void;
  /** Called after each checkpoint that was saved. */
  onCheckpoint?: (event: CheckpointEvent) => void;
  /** Called after each checkpoint that could not be saved. */
  onCheckpointFailed?: (event: CheckpointFailedEvent) => void;
  /** Called after the run has returned to a checkpoint. */
  onReturn?: (event: ReturnedEvent) => void;
}

/** Result of a training run. */
export interface TrainingResult {
  /** Number of steps done, over all sessions. */
  step: number;
  /** Loss of the last step; null if this session took no step. */
  loss: number | null;
  /** Last evaluation; null if there was none. */
  evaluation: Evaluation | null;
  /** Path of the last checkpoint; null if none was saved. */
  checkpoint: string | null;
  /** True if the signal ended the run. */
  aborted: boolean;
}
