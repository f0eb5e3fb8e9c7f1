/** Shows how well models of several sizes learn a task from examples in their prompt, compared with least squares. */
import {
  AdamW,
  device,
  DropoutSeeds,
  type FloatTensor,
  Initializer,
  LayerNorm,
  Linear,
  mean,
  Module,
  narrow,
  noGrad,
  PositionEmbedding,
  reshape,
  scope,
  square,
  sub,
  tensor,
  TransformerBlock,
} from "heed";
import { drawFrom } from "./draw.js";
import type { Experiment } from "./experiment.js";
import {
  fewShotPage,
  type Known,
  longer,
  type ModelSize,
  noisy,
  type Result,
  type Run,
  type ShiftName,
} from "./few-shot-page.js";
import {
  answersOf,
  bestScaled,
  differencesOf,
  drawPrompts,
  errorsOf,
  gradientStep,
  nearest,
  type Prompts,
  ridge,
  type Shift,
} from "./linear-tasks.js";

/** Prompts that differ from those of training, by name. The penalty is that of the best ridge regression. */
const shifts: Record<ShiftName, Shift & { penalty: number }> = {
  [noisy]: { noise: 1, penalty: 1 },
  [longer]: { scale: 2, penalty: 1e-9 },
};

/** Penalty with which ridge regression is least squares. */
const none = 1e-9;

interface Size {
  models: readonly ModelSize[];
  dimensions: number;
  points: number;
  steps: number;
  batchSize: number;
  every: number;
  rows: number;
}

/**
 * Transformer that reads numbers: x₁, y₁, x₂, y₂, … are tokens, and at each xᵢ it answers with a value. The weights of its
 * blocks begin with a variance of 1/C, since GPT-2's suit wider models.
 */
class Regressor extends Module {
  readonly read: Linear;
  readonly positions: PositionEmbedding;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly answer: Linear;

  constructor({ layers, width, heads }: ModelSize, points: number, dimensions: number, seed: number) {
    super();
    const init = new Initializer(seed, device());
    const std = 1 / Math.sqrt(width);
    const block = { width, heads, causal: true, std, outputStd: std / Math.sqrt(2 * layers) };
    this.read = new Linear({ inputs: dimensions + 1, outputs: width, std: 1 / Math.sqrt(dimensions + 1) }, init);
    this.positions = new PositionEmbedding({ length: 2 * points, width, sinusoids: null }, init);
    this.blocks = Array.from({ length: layers }, () => new TransformerBlock(block, init, new DropoutSeeds(0)));
    this.norm = new LayerNorm({ width }, init);
    this.answer = new Linear({ inputs: width, outputs: 1, std }, init);
  }

  /** Returns the answers [B, points] to tokens [B, 2 · points, dimensions + 1]. */
  forward(tokens: FloatTensor): FloatTensor {
    const [rows, length] = tokens.shape as [number, number];
    return scope(() => {
      let x = this.positions.forward(this.read.forward(tokens)); // [B, T, C]
      for (const block of this.blocks) x = block.forward(x);
      const answers = reshape(this.answer.forward(this.norm.forward(x)), [rows, length / 2, 2]);
      return reshape(narrow(answers, 2, 0, 1), [rows, length / 2]);
    });
  }
}

/** Returns the tokens of prompts, [rows, 2 · points, dimensions + 1]. Inputs and values have places of their own. */
function tokensOf({ rows, points, dimensions, x, y }: Prompts): FloatTensor {
  const width = dimensions + 1;
  const tokens = new Float32Array(rows * 2 * points * width);
  for (let at = 0; at < rows * points; at++) {
    tokens.set(x.subarray(at * dimensions, (at + 1) * dimensions), 2 * at * width);
    tokens[(2 * at + 1) * width + dimensions] = y[at]!;
  }
  return tensor(tokens, [rows, 2 * points, width]);
}

async function modelAnswers(model: Regressor, prompts: Prompts): Promise<Float32Array> {
  using answers = noGrad(() => scope(() => model.forward(tokensOf(prompts))));
  return await answers.data();
}

/** Prompts on which models are tested, with the answers of known methods. */
interface Exam {
  prompts: Prompts;
  /** Answers of methods to these prompts. */
  answers: Record<Known, Float32Array>;
  shifted: Record<ShiftName, Prompts>;
}

/** Returns one thing for each kind of prompts that differ from those of training. */
function byShift<T>(of: (name: ShiftName) => T): Record<ShiftName, T> {
  return { [noisy]: of(noisy), [longer]: of(longer) };
}

function examOf({ rows, points, dimensions }: Size): Exam {
  const prompts = drawPrompts({ rows, points, dimensions }, drawFrom(13572468));
  return {
    prompts,
    answers: {
      leastSquares: answersOf(prompts, ridge(none)),
      gradientStep: bestScaled(prompts, answersOf(prompts, gradientStep)),
    },
    shifted: byShift((name) => drawPrompts({ rows, points, dimensions }, drawFrom(24681357), shifts[name])),
  };
}

async function measure(chosen: ModelSize, seed: number, size: Size, { prompts: test, ...exam }: Exam): Promise<Run> {
  const { steps, batchSize, every, points, dimensions } = size;
  using regressor = new Regressor(chosen, points, dimensions, seed);
  using optimizer = new AdamW(regressor.namedParameters(), { beta2: 0.98, weightDecay: 0, maxNorm: 1 });
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const last = async (): Promise<number> => errorsOf(test, await modelAnswers(regressor, test)).at(-1)!;
  const curve: [number, number][] = [[0, await last()]];
  for (let step = 1; step <= steps; step++) {
    const left = 0.5 + 0.5 * Math.cos((Math.PI * step) / steps);
    optimizer.lr = 3e-3 * Math.min(1, step / 100) * (0.05 + 0.95 * left);
    const prompts = drawPrompts({ rows: batchSize, points, dimensions }, draw);
    using loss = scope(() => {
      const loss = mean(square(sub(regressor.forward(tokensOf(prompts)), tensor(prompts.y, [batchSize, points]))));
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    });
    await loss.item(); // so that steps do not pile up
    if (step % every === 0 || step === steps) curve.push([step, await last()]);
  }
  const answers = await modelAnswers(regressor, test);
  const [ofNoisy, ofLonger] = [
    await modelAnswers(regressor, exam.shifted[noisy]),
    await modelAnswers(regressor, exam.shifted[longer]),
  ];
  return {
    ...{ ...chosen, seed, parameters: regressor.parameterCount(), curve },
    errors: errorsOf(test, answers),
    distances: {
      leastSquares: differencesOf(test, answers, exam.answers.leastSquares),
      gradientStep: differencesOf(test, answers, exam.answers.gradientStep),
    },
    shifted: byShift((name) => errorsOf(exam.shifted[name], name === noisy ? ofNoisy : ofLonger)),
  };
}

export const fewShot: Experiment<Result> = {
  name: "few-shot",
  title: "How does a model learn from examples in its prompt?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? {
          models: [
            { layers: 1, width: 8, heads: 2 },
            { layers: 2, width: 8, heads: 2 },
          ],
          ...{ dimensions: 2, points: 4, steps: 4, batchSize: 4, every: 2, rows: 8 },
        }
      : {
          models: [
            { layers: 1, width: 16, heads: 2 },
            { layers: 2, width: 32, heads: 4 },
            { layers: 3, width: 64, heads: 4 },
          ],
          ...{ dimensions: 3, points: 11, steps: 2000, batchSize: 32, every: 50, rows: 512 },
        };
    const { dimensions, points, steps, batchSize, rows } = size;
    const exam = examOf(size);
    const runs: Run[] = [];
    for (const model of size.models)
      for (const seed of quick ? [1] : seeds) runs.push(await measure(model, seed, size, exam));
    const shiftedBaselines = byShift((name) => {
      const prompts = exam.shifted[name];
      const errors = (penalty: number): number[] => errorsOf(prompts, answersOf(prompts, ridge(penalty)));
      return { best: errors(shifts[name].penalty), leastSquares: errors(none) };
    });
    const baselines = {
      leastSquares: errorsOf(exam.prompts, exam.answers.leastSquares),
      gradientStep: errorsOf(exam.prompts, exam.answers.gradientStep),
      nearest: errorsOf(exam.prompts, answersOf(exam.prompts, nearest)),
    };
    return { dimensions, points, steps, batchSize, rows, baselines, shiftedBaselines, runs };
  },

  page: fewShotPage,
};
