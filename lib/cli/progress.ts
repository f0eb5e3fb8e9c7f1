import type {
  CheckpointFailedEvent,
  EvaluationEvent,
  ReturnedEvent,
  StepEvent,
  TrainerEvent,
} from "../train/events.js";
import { Bar } from "./bar.js";

/** The display of a training run in progress. */
export interface Progress {
  /** Shows a summary of what is trained. */
  begin(summary: string): void;
  show(event: TrainerEvent): void;
  note(text: string): void;
  end(): void;
}

/** Display that shows nothing, for all processes of a distributed run but the first. */
export const silent: Progress = {
  begin: () => undefined,
  show: () => undefined,
  note: () => undefined,
  end: () => undefined,
};

/**
 * Returns a display that is a bar on a terminal, and lines of text elsewhere. `predicts` is true if the loss is that of
 * predicted tokens, which has a perplexity. A launcher of several processes may give them terminals of its own, so that
 * nobody knows where its output goes.
 */
export function createProgress({ predicts = true, launched = false } = {}): Progress {
  return process.stdout.isTTY && !launched ? bar() : lines(predicts);
}

function bar(): Progress {
  const view = new Bar();
  const state = { progress: 0, step: 0, loss: "…", validation: "…", speed: "…", left: "…" };
  const draw = (): void => {
    const { progress, step, loss, validation, speed, left } = state;
    const words = `step ${step}  loss ${loss}  validation ${validation}  ${speed} tokens/s  ${left} left`;
    view.show(progress, `${Math.floor(100 * progress)}%  ${words}`);
  };
  return {
    begin(summary) {
      process.stdout.write(`${summary}\n`);
      draw();
    },
    show(event) {
      if (event.type === "step") {
        const { progress, step, loss } = event;
        Object.assign(state, { progress, step, loss: loss.toFixed(3), ...pace(event) });
        draw();
        if (event.skipped) this.note(notUpdated(event));
      } else if (event.type === "evaluation") {
        state.validation = event.loss.toFixed(3);
        draw();
      } else if (event.type === "checkpoint-failed") this.note(notSaved(event));
      else if (event.type === "returned") this.note(returned(event));
    },
    note: (text) => view.note(text),
    end: () => view.end(),
  };
}

/** Minimum number of seconds between two lines about steps. */
const interval = 5;

function lines(predicts: boolean): Progress {
  const say = (text: string): unknown => process.stdout.write(`${text}\n`);
  let last: StepEvent | null = null;
  let said = -Infinity;
  const sayStep = (event: StepEvent): void => {
    const { speed, left } = pace(event);
    said = performance.now() / 1000;
    last = null;
    say(
      `step ${event.step}  loss ${event.loss.toFixed(4)}  lr ${event.lr.toExponential(2)}  ${speed} tokens/s  ${left} left`,
    );
  };
  const sayEvaluation = ({ step, loss, perplexity }: EvaluationEvent): unknown =>
    say(
      `step ${step}  validation loss ${loss.toFixed(4)}${predicts ? `  perplexity ${perplexity.toPrecision(4)}` : ""}`,
    );
  return {
    begin: say,
    show(event) {
      if (event.type === "step") {
        last = event;
        if (event.skipped) say(notUpdated(event));
        if (performance.now() / 1000 - said >= interval) sayStep(event);
        return;
      }
      if (last) sayStep(last);
      if (event.type === "evaluation") sayEvaluation(event);
      else if (event.type === "checkpoint") say(`step ${event.step}  saved ${event.path}`);
      else if (event.type === "checkpoint-failed") say(notSaved(event));
      else if (event.type === "returned") say(returned(event));
    },
    note: say,
    end: () => undefined,
  };
}

function notUpdated({ step, gradientNorm }: StepEvent): string {
  return `step ${step}  not updated: the norm of the gradients is ${gradientNorm}`;
}

function notSaved({ step, message }: CheckpointFailedEvent): string {
  return `step ${step}  not saved: ${message}`;
}

function returned({ step, from, loss, path }: ReturnedEvent): string {
  return `step ${from + 1}  loss ${loss.toFixed(4)} is a spike: continuing from step ${step}, ${path}`;
}

function pace({ tokensPerSecond, secondsLeft }: StepEvent): { speed: string; left: string } {
  return { speed: Math.round(tokensPerSecond).toLocaleString("en"), left: duration(secondsLeft) };
}

/** Formats a duration as m:ss or h:mm:ss. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (n: number): string => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
