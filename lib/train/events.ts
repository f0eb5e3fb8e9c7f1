import type { Evaluation } from "./evaluate.js";

/** A step is done: the events of all steps come, in their order. */
export interface StepEvent {
  type: "step";
  /** Steps done, of all sessions. */
  step: number;
  /** Mean over the step's tokens before it changed the model, in nats per token. */
  loss: number;
  lr: number;
  /** The global norm of the gradients before clipping; null without clipping. */
  gradientNorm: number | null;
  /** Whether the model stayed as it was, since that norm is not finite. */
  skipped: boolean;
  /** Smoothed; evaluations and checkpoints do not count. */
  tokensPerSecond: number;
  /** How much of the run is done, from 0 to 1, by its steps or by its time. */
  progress: number;
  /** Estimated, until the run's end. */
  secondsLeft: number;
}

/** The model was evaluated on the held-out tokens. */
export interface EvaluationEvent extends Evaluation {
  type: "evaluation";
  step: number;
}

/** A checkpoint is complete. */
export interface CheckpointEvent {
  type: "checkpoint";
  step: number;
  path: string;
}

/**
 * A checkpoint could not be saved, as on a full disk. The run goes on, and those saved before stay; the next one is tried
 * when its turn comes.
 */
export interface CheckpointFailedEvent {
  type: "checkpoint-failed";
  step: number;
  /** What went wrong. */
  message: string;
  /** How many saves in a row have failed, with this one. */
  failures: number;
}

/** The signal ended the run; what it saved came before, as an event of its own. */
export interface AbortedEvent {
  type: "aborted";
  step: number;
}

/** The run has had its steps or its time. */
export interface FinishedEvent {
  type: "finished";
  step: number;
  /** Seconds the run took, over all sessions. */
  seconds: number;
}

export type TrainerEvent =
  StepEvent | EvaluationEvent | CheckpointEvent | CheckpointFailedEvent | AbortedEvent | FinishedEvent;

/** What `Trainer.train` calls. */
export interface TrainerCallbacks {
  onStep?: (event: StepEvent) => void;
  onEvaluation?: (event: EvaluationEvent) => void;
  onCheckpoint?: (event: CheckpointEvent) => void;
  onCheckpointFailed?: (event: CheckpointFailedEvent) => void;
}

/** How a run ended. */
export interface TrainingResult {
  step: number;
  /** Of the last step; null where there was none to do. */
  loss: number | null;
  /** The last evaluation. */
  evaluation: Evaluation | null;
  /** The last checkpoint's path. */
  checkpoint: string | null;
  aborted: boolean;
}
