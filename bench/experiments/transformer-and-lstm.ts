/** What the Transformer changed: it trains on all positions at once, where an LSTM reads one after the other. */
import { AdamW, GPT, LstmLanguageModel, tensor } from "heed";
import { mobyDick, type Book } from "./book.js";
import { type Experiment, round, table } from "./experiment.js";
import { evaluateLoss, type LanguageModel, stepOf, train } from "./training.js";

const kinds = ["Transformer", "LSTM"] as const;
type Kind = (typeof kinds)[number];
type Curves = Record<Kind, [number, number][]>;

interface Result {
  vocabularySize: number;
  parameters: Record<Kind, number>;
  tokensPerBatch: number;
  /** Sequence length and training tokens a second. */
  speed: Curves;
  contextLength: number;
  batchSize: number;
  /** Of the run that counts; trials take a fifth of it. */
  seconds: number;
  /** Learning rate and held-out loss of short runs that chose it. */
  trials: Curves;
  /** Seconds of training and held-out loss. */
  learning: Curves;
  /** Tokens seen in the run that counts. */
  tokens: Record<Kind, number>;
}

/** About as many parameters each: 12·C² in a block of the Transformer, 8·H² in a layer of the LSTM. */
function create(kind: Kind, vocabularySize: number, contextLength: number, quick: boolean): GPT | LstmLanguageModel {
  const common = { vocabularySize, contextLength };
  if (kind === "Transformer")
    return new GPT({ ...common, layers: quick ? 1 : 4, heads: 4, width: quick ? 16 : 128 }, { seed: 1 });
  return new LstmLanguageModel({ ...common, layers: quick ? 1 : 2, width: quick ? 16 : 224, tied: true }, { seed: 1 });
}

/** Training tokens a second at one length, in the fastest of some steps: what else the machine does only slows. */
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

interface Setting {
  book: Book;
  /** How often the held-out loss is measured; at least at the end. */
  moments: number;
  seconds: number;
  size: { batchSize: number; contextLength: number };
  quick: boolean;
}

interface Run {
  kind: Kind;
  lr: number;
  /** Seconds of training and held-out loss; the last is at the end. */
  curve: [number, number][];
  /** Seen in training. */
  tokens: number;
}

/** Trains a fresh model, and goes on to the next step when asked to. */
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
    // More often in the beginning, when it falls fast.
    if (share >= 1 || share >= (curve.length / moments) ** 2) curve.push([elapsed / 1000, await evaluate()]);
    yield elapsed;
  }
}

/** Runs side by side, a step each by turns: what else the machine does meets all of them alike. */
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

/** Of trials, the one with the lowest loss. */
function bestOf(trials: readonly [number, number][]): [number, number] {
  return trials.reduce((best, trial) => (trial[1] < best[1] ? trial : best));
}

export const transformerAndLstm: Experiment<Result> = {
  name: "transformer-and-lstm",
  title: "What did the Transformer change?",

  async run(quick) {
    const book = mobyDick();
    const { vocabularySize } = book.tokenizer;
    const [tokensPerBatch, lengths] = quick ? [32, [8, 16]] : [4096, [16, 32, 64, 128, 256, 512, 1024]];
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
    return { vocabularySize, parameters, tokensPerBatch, speed, ...size, seconds, trials, learning, tokens };
  },

  page(result) {
    const { parameters, tokensPerBatch, speed, contextLength, batchSize, seconds, trials, learning, tokens } = result;
    const ratios = speed.Transformer.map(([, rate], i) => rate / speed.LSTM[i]![1]);
    const lengths = speed.Transformer.map(([length]) => length);
    const best = byKind((kind) => bestOf(trials[kind]));
    const end = byKind((kind) => learning[kind].at(-1)![1]);
    // When the Transformer was as good as the LSTM was in the end.
    const caught = learning.Transformer.find(([, loss]) => loss <= end.LSTM);
    const verdict =
      end.Transformer < end.LSTM && caught
        ? `The Transformer needs ${round(caught[0])} s to be as good as the LSTM is after ${seconds} s.`
        : `In this time, at this size, the Transformer does not get below the LSTM.`;
    return {
      text: `Until 2017 the usual language model was a recurrent one. An LSTM reads a text token by token and keeps what it has
read in a state of fixed size: step t + 1 cannot begin before step t is done. The Transformer has no such state; every
position looks at those before it, and all positions of a sequence are trained at once. Here both are trained by heed, with the
same characters of Moby Dick, the same optimiser and about as many parameters: a GPT of 4 blocks, 128 wide
(${parameters.Transformer} parameters), and an LSTM of 2 layers of 224 (${parameters.LSTM}). The LSTM's input
share is one matrix product over all steps, and a step of its recurrence is one product and five elementwise operations.
That is not the limit: torch.nn.LSTM took about six tenths of the time on these cores (\`npm run bench:peers -- --only LSTM\`).

## Speed against the length of the sequence

Every batch has ${tokensPerBatch} tokens: twice the length, half as many sequences. The work of the LSTM is the same throughout,
but more and more of it has to wait for its turn. The Transformer's attention costs more with the length, its
matrix products do not.

The fastest of eight steps counts.

![Training speed against sequence length](plot:speed)

${table(
  ["sequence length", "Transformer, tokens/s", "LSTM, tokens/s", "ratio"],
  lengths.map((length, i) => [
    length,
    Math.round(speed.Transformer[i]![1]),
    Math.round(speed.LSTM[i]![1]),
    Number(ratios[i]!.toFixed(2)),
  ]),
)}

Here the Transformer trains ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)} times as fast as the LSTM: two cores are busy with a product of ${tokensPerBatch / lengths.at(-1)!} rows,
too. A device with thousands of arithmetic units would stand mostly idle; none was measured here.

## Loss against time

Sequences of ${contextLength} characters, ${batchSize} at a time, ${seconds} s of training each; the time of evaluation does not count.
Both run by turns, a step each, so that whatever else the machine does meets both alike. Each has the learning rate that
was best for it in runs of ${seconds / 5} s:

${table(
  ["learning rate", ...kinds.map((kind) => `${kind}, held-out loss after ${seconds / 5} s`)],
  trials.Transformer.map(([lr, loss], i) => [lr, Number(loss.toFixed(3)), Number(trials.LSTM[i]![1].toFixed(3))]),
)}

![Held-out loss against training time](plot:learning)

${table(
  ["", "learning rate", "characters seen", "held-out loss, nats per character"],
  kinds.map((kind) => [kind, best[kind][0], tokens[kind], Number(end[kind].toFixed(3))]),
)}

${verdict}
`,
      plots: {
        speed: {
          title: "Training speed",
          x: { title: "sequence length", log: true },
          y: {
            title: "tokens a second",
            domain: [0, 1.1 * Math.max(...kinds.flatMap((kind) => speed[kind].map(([, rate]) => rate)))],
          },
          lines: speed,
        },
        learning: {
          title: "Held-out loss on Moby Dick",
          x: { title: "seconds of training" },
          y: { title: "nats per character", domain: [Math.floor(10 * Math.min(end.Transformer, end.LSTM)) / 10, 3] },
          lines: learning,
        },
      },
    };
  },
};
