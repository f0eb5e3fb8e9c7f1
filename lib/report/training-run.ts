// What a training run has logged. The page of web/ has these types, too.

/** Text that a model continued during its training. */
export interface RunSample {
  /** Step after which it was generated. */
  step: number;
  /** Text that was given. */
  prompt: string;
  /** Text that the model generated. */
  text: string;
}

/** Log of a training run. Curves are lists of numbers of equal length, one for each step that is listed. */
export interface TrainingRun {
  /** Name of the run: that of its folder. */
  name: string;
  /** Steps, in ascending order. */
  steps: {
    /** Number of each step. */
    step: number[];
    /** Seconds of the run, over all sessions, without the time between them. */
    seconds: number[];
    /** Loss in nats per token. */
    loss: number[];
    lr: number[];
    /** Global norm of the gradients; null without clipping. */
    gradientNorm: (number | null)[];
    tokensPerSecond: number[];
  };
  /** Evaluations on held-out data. */
  evaluations: {
    step: number[];
    seconds: number[];
    /** Loss in nats per token. */
    loss: number[];
  };
  samples: RunSample[];
  /** Steps whose update was skipped, because the norm of their gradients was not finite. */
  skipped: number[];
  /** Steps from which the run was resumed. */
  resumed: number[];
  /** State in which the log ends: "running" also for a run that was killed. */
  state: "running" | "finished" | "aborted";
}
