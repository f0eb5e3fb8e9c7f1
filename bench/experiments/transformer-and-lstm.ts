/** Shows what the Transformer changed: it trains on all positions at once, while an LSTM reads one after the other. */
import { AdamW, GPT, LstmLanguageModel, tensor } from "heed";
import { mobyDick, type Book } from "./book.js";
import { type Experiment, type Page, round, sections, table } from "./experiment.js";
import { LaunchRecorder, type StepPath } from "./launch-recorder.js";
import { evaluateLoss, type LanguageModel, stepOf, train } from "./training.js";

const kinds = ["Transformer", "LSTM"] as const;
type Kind = (typeof kinds)[number];
type Curves = Record<Kind, [number, number][]>;

interface Result {
  vocabularySize: number;
  parameters: Record<Kind, number>;
  tokensPerBatch: number;
  /** Pairs of a sequence length and training tokens a second. */
  speed: Curves;
  /** Pairs of a sequence length and what a step of training consists of. */
  paths: Record<Kind, [number, StepPath][]>;
  contextLength: number;
  batchSize: number;
  /** Seconds of the run that counts. Each trial takes a fifth of them. */
  seconds: number;
  /** Pairs of a learning rate and the held-out loss of a short run with it. The lowest loss chooses the rate. */
  trials: Curves;
  /** Pairs of seconds of training and the held-out loss. */
  learning: Curves;
  /** Number of tokens seen in the run that counts. */
  tokens: Record<Kind, number>;
}

/** Creates a model. Both kinds have about as many parameters: 12·C² a block of the Transformer, 8·H² a layer of the LSTM. */
function create(kind: Kind, vocabularySize: number, contextLength: number, quick: boolean): GPT | LstmLanguageModel {
  const common = { vocabularySize, contextLength };
  if (kind === "Transformer")
    return new GPT({ ...common, layers: quick ? 1 : 4, heads: 4, width: quick ? 16 : 128 }, { seed: 1 });
  return new LstmLanguageModel({ ...common, layers: quick ? 1 : 2, width: quick ? 16 : 224, tied: true }, { seed: 1 });
}

/** Returns the training tokens a second at one length, in the fastest step, because other work can only slow a step down. */
async function speedOf(model: LanguageModel, length: number, batch: number, steps: number): Promise<number> {
  using optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 });
  const values = Int32Array.from({ length: batch * length }, (_, i) => (i * 7919) % 61);
  using ids = tensor(values, [batch, length]);
  const times: number[] = [];
  for (let step = 0; step <= steps; step++) {
    const start = performance.now();
    await stepOf(model, optimizer, ids, ids);
    if (step > 0) times.push(performance.now() - start);
  }
  return (batch * length * 1000) / Math.min(...times);
}

/** Resolves to what the steps of both kinds consist of, at each length. */
async function pathsOf(lengths: readonly number[], tokensPerBatch: number, quick: boolean): Promise<Result["paths"]> {
  const { vocabularySize } = mobyDick().tokenizer;
  const paths = byKind((): [number, StepPath][] => []);
  for (const length of lengths)
    for (const kind of kinds) {
      using recorder = await LaunchRecorder.start();
      using model = create(kind, vocabularySize, length, quick);
      using optimizer = new AdamW(model.namedParameters(), { lr: 1e-4 });
      const shape = [tokensPerBatch / length, length];
      using ids = tensor(
        Int32Array.from({ length: tokensPerBatch }, (_, i) => (i * 7919) % 61),
        shape,
      );
      const step = (): Promise<number> => stepOf(model, optimizer, ids, ids);
      await step(); // makes the optimiser's state
      paths[kind].push([length, await recorder.count(step)]);
    }
  return paths;
}

interface Setting {
  book: Book;
  /** Number of times that the held-out loss is measured; the last time is at the end. */
  moments: number;
  seconds: number;
  size: { batchSize: number; contextLength: number };
  quick: boolean;
}

interface Run {
  kind: Kind;
  lr: number;
  /** Pairs of seconds of training and the held-out loss; the last pair is of the end. */
  curve: [number, number][];
  /** Number of tokens seen in training. */
  tokens: number;
}

/** Trains a new model. Each call of `next` runs one step and yields the milliseconds of training so far. */
async function* learn(
  run: Run,
  { book, moments, seconds, size, quick }: Setting,
): AsyncGenerator<number, void, undefined> {
  const { kind, lr, curve } = run;
  using model = create(kind, book.tokenizer.vocabularySize, size.contextLength, quick);
  const evaluate = (): Promise<number> => evaluateLoss(model, book.validation, { ...size, batches: quick ? 1 : 12 });
  curve.push([0, await evaluate()]);
  const progress = (_steps: number, elapsed: number): number => elapsed / (seconds * 1000);
  for await (const { steps, elapsed } of train({ model, data: book.train, progress, ...size, lr })) {
    run.tokens = steps * size.batchSize * size.contextLength;
    const share = progress(steps, elapsed);
    // The loss is measured more often in the beginning, when it falls fast.
    if (share >= 1 || share >= (curve.length / moments) ** 2) curve.push([elapsed / 1000, await evaluate()]);
    yield elapsed;
  }
}

/** Trains several runs, which take turns step by step, so that other work on the machine affects all of them alike. */
async function learnTogether(runs: readonly Run[], setting: Setting): Promise<void> {
  let waiting = runs.map((run) => ({ steps: learn(run, setting), elapsed: 0 }));
  while (waiting.length > 0) {
    const next = waiting.reduce((least, one) => (one.elapsed < least.elapsed ? one : least));
    const { done, value } = await next.steps.next();
    if (done) waiting = waiting.filter((one) => one !== next);
    else next.elapsed = value;
  }
}

const byKind = <T>(of: (kind: Kind) => T): Record<Kind, T> => ({ Transformer: of("Transformer"), LSTM: of("LSTM") });

/** Returns the trial with the lowest loss. */
function bestOf(trials: readonly [number, number][]): [number, number] {
  return trials.reduce((best, trial) => (trial[1] < best[1] ? trial : best));
}

/** Returns the sizes of the batches whose speed is measured. */
function speedSizes(quick: boolean): { tokensPerBatch: number; lengths: number[] } {
  if (quick) return { tokensPerBatch: 32, lengths: [8, 16] };
  return { tokensPerBatch: 4096, lengths: [16, 32, 64, 128, 256, 512, 1024] };
}

/** Returns the beginning of the page. */
function introduction({ parameters }: Result): string {
  return `Until 2017 most language models were recurrent. An LSTM reads a text token by token and keeps what it has read in a
state of fixed size, so step t + 1 cannot begin before step t is done. The Transformer has no such state: every
position sees those before it, and all positions of a sequence are trained at once.

In this experiment heed trains both on the same characters of Moby Dick, with the same optimiser and about as many
parameters: a GPT of 4 blocks of width 128 (${parameters.Transformer} parameters), and an LSTM of 2 layers of width 224 (${parameters.LSTM}). In
the LSTM, the products of the inputs are one matrix product over all steps, and each step of the recurrence is one
product and one elementwise operation, the cell. heed runs all steps of a layer by one call.`;
}

/** Returns the section on the speed of training. */
function speedSection({ tokensPerBatch, speed }: Result): string {
  const ratios = speed.Transformer.map(([, rate], i) => rate / speed.LSTM[i]![1]);
  return `## Speed against the length of the sequence

Every batch has ${tokensPerBatch} tokens, so if the sequences are twice as long, there are half as many. The work of the LSTM
is the same at every length, but more and more of it has to wait for the step before. The Transformer's attention
costs more as the length grows, while its matrix products do not.

The speed is that of the fastest of eight steps.

![Training speed against sequence length](plot:speed)

${table(
  ["sequence length", "Transformer, tokens/s", "LSTM, tokens/s", "ratio"],
  speed.Transformer.map(([length, rate], i) => [
    length,
    Math.round(rate),
    Math.round(speed.LSTM[i]![1]),
    Number(ratios[i]!.toFixed(2)),
  ]),
)}

The Transformer trains ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)} times as fast as the LSTM here. The difference is small because even a
product of ${tokensPerBatch / speed.LSTM.at(-1)![0]} rows keeps two cores busy. The next section says what it would mean for a device with thousands of
arithmetic units.`;
}

/** Returns the section on the operations of a step. */
function pathSection({ tokensPerBatch, speed, paths }: Result): string {
  const between = ({ work, path }: StepPath): number => round(work / path / 1e6);
  const cellsOf = (step: StepPath): number[] => [step.launches, step.path, between(step)];
  const rows = paths.Transformer.map(([length, step], i) => [length, ...cellsOf(step), ...cellsOf(paths.LSTM[i]![1])]);
  const ends = (kind: Kind): [StepPath, StepPath] => [paths[kind][0]![1], paths[kind].at(-1)![1]];
  const [[first, last], [shortest, longest]] = [ends("Transformer"), ends("LSTM")];
  const [length, rate] = speed.LSTM.at(-1)!;
  const stepSeconds = tokensPerBatch / rate;
  const microseconds = 5;
  const waiting = ({ path }: StepPath): string => ((path * microseconds) / 1000).toFixed(1);
  return `## Steps that wait for each other

An operation that reads what another one writes has to wait for it. The longest chain of such operations in a step of training (forward,
backward and optimiser) is its *critical path*: more arithmetic units do not make it shorter. The table has, for both models, the number of
operations that are launched in a step, the length of the critical path, and the work of the step divided by that length, in millions of
arithmetic operations: what can be done between two operations that wait for each other. All are counted, not timed: the experiment looks at
each operation that the addon receives, and which elements of memory it reads and writes. The operation for all steps of
an LSTM counts as a product and a cell for each of them, which is what it enqueues on a CUDA card.

${table(
  [
    "sequence length",
    "Transformer, launches",
    "critical path",
    "work between, 10⁶",
    "LSTM, launches",
    "critical path",
    "work between, 10⁶",
  ],
  rows,
)}

The Transformer's path has ${first.path === last.path ? `${first.path} operations at every length` : `${first.path} to ${last.path} operations`}, because all positions are computed at once. The LSTM's grows with
the sequence, from ${shortest.path} to ${longest.path} operations, and the work between two of them shrinks to ${between(longest)} million. On two cores that is
enough: a step took ${round(1000 * stepSeconds)} ms at length ${length}, ${round((1e6 * stepSeconds) / longest.path)} µs for each operation of the path. On a device on which an operation that waits for
another takes at least ${microseconds} µs, however little it does, a step of the LSTM would take at least ${waiting(longest)} ms at length ${length}, and one of the
Transformer ${waiting(last)} ms. (Kernels that keep an LSTM's state on the chip shorten the path.) That is what the Transformer
changed: not the work, but how much of it can be done at once.`;
}

/** Returns the section on the loss during training. */
function lossSection({ contextLength, batchSize, seconds, trials, learning, tokens }: Result): string {
  const best = byKind((kind) => bestOf(trials[kind]));
  const end = endOf(learning);
  // The time at which the Transformer was as good as the LSTM at the end.
  const caught = learning.Transformer.find(([, loss]) => loss <= end.LSTM);
  const verdict =
    end.Transformer < end.LSTM && caught
      ? `The Transformer needs ${round(caught[0])} s to become as good as the LSTM is after ${seconds} s.`
      : `At this size and in this time, the Transformer's loss does not fall below the LSTM's.`;
  return `## Loss against time

Each model trains for ${seconds} s on batches of ${batchSize} sequences of ${contextLength} characters. The time of evaluation does
not count. The models take turns step by step, so that other work on the machine affects both alike. Each has the
learning rate that was best for it in runs of ${seconds / 5} s:

${table(
  ["learning rate", ...kinds.map((kind) => `held-out loss of the ${kind}`)],
  trials.Transformer.map(([lr, loss], i) => [lr, Number(loss.toFixed(3)), Number(trials.LSTM[i]![1].toFixed(3))]),
)}

![Held-out loss against training time](plot:learning)

${table(
  ["model", "learning rate", "characters seen", "held-out loss, nats per character"],
  kinds.map((kind) => [kind, best[kind][0], tokens[kind], Number(end[kind].toFixed(3))]),
)}

${verdict}`;
}

/** Returns the held-out losses at the end of training. */
function endOf(learning: Curves): Record<Kind, number> {
  return byKind((kind) => learning[kind].at(-1)![1]);
}

function plotsOf({ speed, learning }: Result): Page["plots"] {
  const fastest = Math.max(...kinds.flatMap((kind) => speed[kind].map(([, rate]) => rate)));
  const lowest = Math.min(...Object.values(endOf(learning)));
  return {
    speed: {
      title: "Training speed",
      x: { title: "sequence length", log: true },
      y: { title: "tokens a second", domain: [0, 1.1 * fastest] },
      lines: speed,
    },
    learning: {
      title: "Held-out loss on Moby Dick",
      x: { title: "seconds of training" },
      y: { title: "nats per character", domain: [Math.floor(10 * lowest) / 10, 3] },
      lines: learning,
    },
  };
}

export const transformerAndLstm: Experiment<Result> = {
  name: "transformer-and-lstm",
  title: "What did the Transformer change?",

  async run(quick) {
    const book = mobyDick();
    const { vocabularySize } = book.tokenizer;
    const { tokensPerBatch, lengths } = speedSizes(quick);
    const [batchSize, contextLength, seconds] = quick ? [2, 8, 0.2] : [16, 128, 75];
    const rates = quick ? [3e-3] : [2e-3, 4e-3, 8e-3];
    const parameters = byKind((kind) => {
      using model = create(kind, vocabularySize, contextLength, quick);
      return model.parameterCount();
    });
    const speed = byKind((): [number, number][] => []);
    for (const length of lengths)
      for (const kind of kinds) {
        using model = create(kind, vocabularySize, length, quick);
        speed[kind].push([length, await speedOf(model, length, tokensPerBatch / length, quick ? 1 : 8)]);
      }
    const size = { batchSize, contextLength };
    const setting = { book, moments: 20, seconds, size, quick };
    const runOf = (kind: Kind, lr: number): Run => ({ kind, lr, curve: [], tokens: 0 });
    const tries = kinds.flatMap((kind) => rates.map((lr) => runOf(kind, lr)));
    await learnTogether(tries, { ...setting, moments: 1, seconds: seconds / 5 });
    const trials = byKind((kind) =>
      tries.filter((run) => run.kind === kind).map(({ lr, curve }): [number, number] => [lr, curve.at(-1)![1]]),
    );
    const runs = byKind((kind) => runOf(kind, bestOf(trials[kind])[0]));
    await learnTogether(Object.values(runs), setting);
    const learning = byKind((kind) => runs[kind].curve);
    const tokens = byKind((kind) => runs[kind].tokens);
    const paths = await pathsOf(lengths, tokensPerBatch, quick);
    return { vocabularySize, parameters, tokensPerBatch, speed, paths, ...size, seconds, trials, learning, tokens };
  },

  async recount(result, quick) {
    const { tokensPerBatch, lengths } = speedSizes(quick);
    return { ...result, paths: await pathsOf(lengths, tokensPerBatch, quick) };
  },

  page(result) {
    const text = sections(introduction(result), speedSection(result), pathSection(result), lossSection(result));
    return { text, plots: plotsOf(result) };
  },
};
