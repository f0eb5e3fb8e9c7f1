/** Shows what leaks without the causal mask: a model that sees the answer learns to copy it, and nothing else. */
import { Batches, crossEntropy, GPT, type IntTensor, noGrad, sample, scope, tensor } from "heed";
import { mobyDick, type Book } from "./book.js";
import { type Experiment, round, table } from "./experiment.js";
import { evaluateLoss, train } from "./training.js";

interface Outcome {
  masked: boolean;
  /** Pairs of a step and the mean loss of the steps since the pair before. */
  curve: [number, number][];
  /** Loss of the last steps of training, in nats per character. */
  training: number;
  /** Loss of held-out text, measured in the same way. */
  validation: number;
  /** Loss of the next character of held-out text if the text ends there, so that there is nothing to copy. */
  honest: number;
  /** Text that the model writes after the prompt. */
  text: string;
}

interface Result {
  steps: number;
  contextLength: number;
  parameters: number;
  vocabularySize: number;
  prompt: string;
  outcomes: Outcome[];
}

const prompt = "The whale ";

/** A GPT whose tokens see the whole sequence or, if it is masked, only the tokens up to themselves. */
class Reader extends GPT {
  constructor(
    book: Book,
    contextLength: number,
    width: number,
    readonly masked: boolean,
  ) {
    super({ vocabularySize: book.tokenizer.vocabularySize, contextLength, layers: 4, heads: 4, width });
  }

  /** Returns the mask as options of `forward`. If the prefix is the whole sequence, no mask is left. */
  sees(ids: IntTensor): { prefixLengths: number[] | null } {
    const [batch, tokens] = ids.shape as [number, number];
    return { prefixLengths: this.masked ? null : Array<number>(batch).fill(tokens) };
  }

  override loss(ids: IntTensor, targets: IntTensor): ReturnType<GPT["loss"]> {
    return super.loss(ids, targets, this.sees(ids));
  }
}

async function measure(book: Book, masked: boolean, quick: boolean): Promise<Outcome & { parameters: number }> {
  const [steps, contextLength, batchSize] = quick ? [5, 16, 2] : [1000, 64, 16];
  using model = new Reader(book, contextLength, quick ? 16 : 128, masked);
  const curve: [number, number][] = [];
  const every = Math.max(1, steps / 40);
  let sum = 0;
  const progress = (done: number): number => done / steps;
  for await (const step of train({ model, data: book.train, progress, batchSize, contextLength, lr: 2e-3 })) {
    sum += step.loss;
    if (step.steps % every !== 0) continue;
    curve.push([step.steps, sum / every]);
    sum = 0;
  }
  const size = { batchSize, contextLength, batches: quick ? 1 : 40 };
  const validation = await evaluateLoss(model, book.validation, size);
  return {
    masked,
    curve,
    training: curve.at(-1)![1],
    validation,
    honest: await honestLoss(model, book, quick ? 2 : 64),
    text: await write(model, book, quick ? 10 : 240),
    parameters: model.parameterCount(),
  };
}

/** Returns the loss of the character after the first n of a window if the model sees only these n, averaged over several n. */
async function honestLoss(model: Reader, { validation }: Book, rows: number): Promise<number> {
  const { contextLength } = model.config;
  const { inputs, targets } = new Batches(validation, { batchSize: rows, contextLength, shuffle: true }).batch(0);
  const columns = (all: Int32Array, from: number, to: number): Int32Array =>
    Int32Array.from({ length: rows * (to - from) }, (_, i) => {
      const [row, column] = [Math.floor(i / (to - from)), i % (to - from)];
      return all[row * contextLength + from + column]!;
    });
  let sum = 0;
  const cuts = [0.25, 0.5, 0.75, 1].map((share) => contextLength * share);
  for (const cut of cuts) {
    using loss = noGrad(() =>
      scope(() => {
        const ids = tensor(columns(inputs, 0, cut), [rows, cut]);
        const logits = model.forward(ids, { lastOnly: true, ...model.sees(ids) }); // [B, V]
        return crossEntropy(logits, tensor(columns(targets, cut - 1, cut), [rows]));
      }),
    );
    sum += await loss.item();
  }
  return sum / cuts.length;
}

/** Writes text. Each character takes a pass over the whole text so far, since the model was trained on whole sequences. */
async function write(model: Reader, { tokenizer }: Book, count: number): Promise<string> {
  const ids = [...tokenizer.encode(prompt)];
  const { contextLength } = model.config;
  for (let i = 0; i < count; i++) {
    using next = noGrad(() =>
      scope(() => {
        const window = Int32Array.from(ids.slice(-contextLength));
        const input = tensor(window, [1, window.length]);
        const logits = model.forward(input, { lastOnly: true, ...model.sees(input) });
        return sample(logits, tensor(Int32Array.of(i), [1]), { temperature: 0.7, seed: 1 });
      }),
    );
    ids.push(await next.item());
  }
  return tokenizer.decode(ids.slice(prompt.length));
}

const nameOf = ({ masked }: Outcome): string => (masked ? "with the causal mask" : "without it");

export const causalMask: Experiment<Result> = {
  name: "causal-mask",
  title: "What leaks without the causal mask?",

  async run(quick) {
    const book = mobyDick();
    const outcomes: Outcome[] = [];
    let parameters = 0;
    for (const masked of [true, false]) {
      const { parameters: count, ...outcome } = await measure(book, masked, quick);
      parameters = count;
      outcomes.push(outcome);
    }
    const [steps, contextLength] = [outcomes[0]!.curve.at(-1)![0], quick ? 16 : 64];
    return { steps, contextLength, parameters, vocabularySize: book.tokenizer.vocabularySize, prompt, outcomes };
  },

  page({ steps, contextLength, parameters, vocabularySize, prompt, outcomes }) {
    const [masked, open] = outcomes as [Outcome, Outcome];
    const chance = Math.log(vocabularySize);
    const rows = outcomes.map((one) => [nameOf(one), round(one.training), round(one.validation), round(one.honest)]);
    const quote = (text: string): string => `\`\`\`text\n${prompt}${text}\n\`\`\``;
    return {
      text: `A language model reads a text and predicts, at every character, which character comes next. All positions are trained
at once, so the answer at each position is in the input, one place to the right. The causal mask keeps a position from
looking there. In this experiment two GPTs of the same size (${parameters} parameters, a context of ${contextLength} characters)
are trained on Moby Dick for ${steps} steps, with the same text in the same order. The mask is the only difference.

![Training loss, with and without the mask](plot:loss)

Without the mask the loss falls to almost nothing. It looks like a triumph, and **held-out text does not reveal the
fault**: there, too, the answer is in the input. There is nothing to copy only if the text ends at the position in
question, as it does when a model writes:

${table(["nats per character", "training", "held-out, in the same way", "held-out, where the text ends"], rows)}

A random guess among ${vocabularySize} characters costs ${round(chance)} nats. Where the text ends, the model without the mask is
${open.honest > chance ? "worse than such a guess" : "little better than such a guess"}: it has only learned to look one place to the right. The model with
the mask has about the same loss in all three columns (${round(masked.training)}, ${round(masked.validation)} and ${round(masked.honest)}), because in training it never
saw more than it sees when it writes.

The model with the mask continues "${prompt.trim()}" like this:

${quote(masked.text)}

The model without it writes this:

${quote(open.text)}

**Conclusion:** a loss that is too good is the symptom of a leak. To test a decoder, change a token: the logits before
it must not change.
`,
      plots: {
        loss: {
          title: "Training loss on Moby Dick",
          x: { title: "steps" },
          y: { title: "nats per character", domain: [0, Math.max(3.5, masked.curve[0]![1])] },
          lines: Object.fromEntries(outcomes.map((one) => [nameOf(one), one.curve])),
        },
      },
    };
  },
};
