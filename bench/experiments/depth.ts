/** Shows what residuals and the place of the norms do in deep stacks of blocks, at the start and in training. */
import {
  AdamW,
  type AttentionContext,
  Batches,
  device,
  DropoutSeeds,
  type FloatTensor,
  GPT,
  Initializer,
  type IntTensor,
  noGrad,
  scope,
  tensor,
  type TokenSource,
  TransformerBlock,
} from "heed";
import { type Book, mobyDick } from "./book.js";
import { type Experiment, type Page, round, sections, table } from "./experiment.js";
import { clearSign, meanOf, minus, withMargin } from "./seeds.js";
import { evaluateLoss, stepOf } from "./training.js";

const shapes = { pre: "pre-norm", post: "post-norm", straight: "no residuals" } as const;
type Shape = keyof typeof shapes;
const shapeNames = Object.keys(shapes) as Shape[];

/** A way to train. */
interface Way {
  shape: Shape;
  warms: boolean;
}

/** Ways to train that are compared. */
const ways: readonly Way[] = [
  { shape: "pre", warms: true },
  { shape: "pre", warms: false },
  { shape: "post", warms: true },
  { shape: "post", warms: false },
  { shape: "straight", warms: true },
];

/** State of a new model. */
interface Start {
  shape: Shape;
  depth: number;
  seed: number;
  /** Norms of the gradients of each block's parameters. */
  gradients: number[];
  /** Share of a state that is its own, not that of all tokens, after each block: ‖X − X̄‖ / ‖X‖. */
  own: number[];
}

interface Run extends Way {
  depth: number;
  seed: number;
  /** Held-out loss at the end, in nats per character; that of even odds if the loss was not finite. */
  loss: number;
  diverged: boolean;
}

interface Result {
  width: number;
  heads: number;
  steps: number;
  warmup: number;
  batchSize: number;
  contextLength: number;
  vocabularySize: number;
  /** Held-out loss of a model that knows how often each character occurs, and nothing else, in nats per character. */
  frequencyLoss: number;
  lr: number;
  depths: number[];
  starts: Start[];
  runs: Run[];
}

interface Size {
  width: number;
  heads: number;
  steps: number;
  warmup: number;
  batchSize: number;
  contextLength: number;
  depths: readonly number[];
}

const lr = 3e-3;

/** Block without residuals: what attention and the feed-forward layers return is all that the next one gets. */
class StraightBlock extends TransformerBlock {
  override forward(x: FloatTensor, context: AttentionContext = {}): FloatTensor {
    return scope(() => {
      const attended = this.attn.forward(this.ln_1.forward(x), context);
      return this.mlp.forward(this.ln_2.forward(attended));
    });
  }
}

/**
 * GPT whose blocks have another shape. Their weights begin with a variance of 1/inputs at every depth, those of attention's
 * output with a quarter of it.
 */
class Stack extends GPT {
  constructor(shape: Shape, depth: number, seed: number, vocabularySize: number, size: Size) {
    const { width, heads, contextLength } = size;
    super({ vocabularySize, contextLength, layers: depth, heads, width }, { seed });
    const init = new Initializer(seed + 1000, device());
    const norm = shape === "post" ? ("post" as const) : ("pre" as const);
    const block = { width, heads, causal: true, norm, layout: "io" as const, std: 1 / Math.sqrt(width) };
    const outputStd = block.std / 2; // the second feed-forward layer has 4 times as many inputs
    const Block = shape === "straight" ? StraightBlock : TransformerBlock;
    for (const old of this.h.splice(0)) old.dispose();
    for (let layer = 0; layer < depth; layer++)
      this.h.push(new Block({ ...block, outputStd }, init, new DropoutSeeds(0)));
  }

  /** Returns the states [B, T, C] after each block. */
  statesByBlock(ids: IntTensor): FloatTensor[] {
    let x = this.embed(ids, {});
    return this.h.map((block) => (x = block.forward(x)));
  }
}

interface Batch {
  ids: IntTensor;
  targets: IntTensor;
}

function batchOf(batches: Batches, step: number): Batch {
  const { inputs, targets } = batches.batch(step);
  const shape = [batches.batchSize, batches.contextLength];
  return { ids: tensor(inputs, shape), targets: tensor(targets, shape) };
}

/** Resolves to what a new model does with one batch, forward and backward. */
async function startOf(shape: Shape, depth: number, seed: number, book: Book, size: Size): Promise<Start> {
  using model = new Stack(shape, depth, seed, book.tokenizer.vocabularySize, size);
  const { ids, targets } = batchOf(new Batches(book.train, { ...size, seed }), 0);
  scope(() => {
    model.loss(ids, targets).backward();
  });
  const gradients: number[] = [];
  for (const block of model.h) {
    let square = 0;
    for (const { grad } of block.parameters()) for (const value of grad ? await grad.data() : []) square += value ** 2;
    gradients.push(Math.sqrt(square));
  }
  const states = noGrad(() => scope(() => model.statesByBlock(ids).map((x) => x.data())));
  const own = (await Promise.all(states)).map((values) => ownShare(values, size));
  for (const one of [ids, targets]) one.dispose();
  return { shape, depth, seed, gradients, own };
}

/** Returns ‖X − X̄‖ / ‖X‖ for states [B, T, C], where X̄ has the mean of the sequence's tokens in each row. */
function ownShare(values: Float32Array, { batchSize, contextLength, width }: Size): number {
  let [rest, all] = [0, 0];
  for (let b = 0; b < batchSize; b++)
    for (let c = 0; c < width; c++) {
      const column = Array.from({ length: contextLength }, (_, t) => values[(b * contextLength + t) * width + c]!);
      const mean = meanOf(column);
      for (const value of column) {
        rest += (value - mean) ** 2;
        all += value ** 2;
      }
    }
  return Math.sqrt(rest / all);
}

async function train({ shape, warms }: Way, depth: number, seed: number, book: Book, size: Size): Promise<Run> {
  const { steps, warmup, batchSize, contextLength } = size;
  const { vocabularySize } = book.tokenizer;
  using model = new Stack(shape, depth, seed, vocabularySize, size);
  using optimizer = new AdamW(model.namedParameters(), { beta2: 0.95, weightDecay: 0.1, maxNorm: 1 });
  const batches = new Batches(book.train, { batchSize, contextLength, seed });
  for (let step = 0; step < steps; step++) {
    optimizer.lr = lr * (warms ? Math.min(1, (step + 1) / warmup) : 1);
    const { ids, targets } = batchOf(batches, step);
    await stepOf(model, optimizer, ids, targets);
    for (const one of [ids, targets]) one.dispose();
  }
  const loss = await evaluateLoss(model, book.validation, { batchSize, contextLength, batches: 40 });
  const diverged = !Number.isFinite(loss);
  return { shape, warms, depth, seed, loss: diverged ? Math.log(vocabularySize) : loss, diverged };
}

/** Returns the held-out loss of a model that knows how often each character occurs, and nothing else. */
function frequencyLossOf({ train, validation, tokenizer }: Book): number {
  const countsOf = (source: TokenSource): Float64Array => {
    const ids = new Int32Array(source.length);
    source.read(0, source.length, ids);
    const counts = new Float64Array(tokenizer.vocabularySize);
    for (const id of ids) counts[id]! += 1;
    return counts;
  };
  const [known, held] = [countsOf(train), countsOf(validation)];
  // One more of each, so that none has a probability of 0.
  const total = train.length + known.length;
  return held.reduce((sum, count, id) => sum - (count / validation.length) * Math.log((known[id]! + 1) / total), 0);
}

/** Returns the held-out losses of the models that were trained in one way at one depth, one for each seed. */
function lossesOf({ runs }: Result, { shape, warms }: Way, depth: number): number[] {
  return runs
    .filter((run) => run.shape === shape && run.warms === warms && run.depth === depth)
    .map(({ loss }) => loss);
}

/** Returns the new models of one shape and one depth, one for each seed. */
function startsOf({ starts }: Result, shape: Shape, depth: number): Start[] {
  return starts.filter((start) => start.shape === shape && start.depth === depth);
}

/** Returns the sentence that says which runs learned no more than how often each character occurs. */
function stuckOf(result: Result): string {
  const { depths, frequencyLoss } = result;
  const stuck = ways.flatMap((way) =>
    depths.flatMap((depth) => {
      const own = lossesOf(result, way, depth);
      const count = own.filter((loss) => loss > frequencyLoss - 0.03).length;
      return count === 0 ? [] : [`${count} of ${own.length} with ${depth} blocks (${nameOf(way)})`];
    }),
  );
  const known = `A model that knows how often each character occurs, and nothing else, has a loss of ${round(frequencyLoss)}.`;
  return stuck.length === 0
    ? `${known} Every run learned more than that.`
    : `${known} Runs that learned no more than that: ${stuck.join("; ")}.`;
}

const nameOf = ({ shape, warms }: Way): string => `${shapes[shape]}, ${warms ? "with" : "without"} warm-up`;

/** Returns the end of the page: what follows from the numbers. */
function verdict(result: Result): string {
  const { depths } = result;
  const [shallow, deep] = [depths[0]!, depths.at(-1)!];
  const losses = (shape: Shape, warms: boolean, depth: number): number[] => lossesOf(result, { shape, warms }, depth);
  const own = (shape: Shape): number => meanOf(startsOf(result, shape, deep).map((start) => start.own.at(-1)!));
  const change = (shape: Shape, warms: boolean): string => {
    const [before, after] = [losses(shape, warms, shallow), losses(shape, warms, deep)];
    const verbs = { "-1": "falls", 0: "changes by no clear amount,", 1: "rises" };
    return `${verbs[clearSign(minus(after, before)) as -1 | 0 | 1]} from ${round(meanOf(before))} to ${round(meanOf(after))}`;
  };

  const gap = clearSign(minus(losses("straight", true, deep), losses("pre", true, deep)));
  const residuals =
    gap === 1
      ? `At ${deep} blocks the models with residuals are clearly better.`
      : gap === -1
        ? `At ${deep} blocks the models without residuals are better, against what He et al. found.`
        : `At ${deep} blocks no clear difference is left between them.`;
  const [ownStraight, ownPre] = [own("straight"), own("pre")];
  const collapse =
    ownStraight < 0.5 * ownPre
      ? `A reason is there before any training: after ${deep} blocks without residuals the tokens of a sequence have ${
          ownStraight < 0.1 ? "nearly the same state" : "states that are more alike"
        }`
      : `The tokens of a sequence do not become alike before training, whether there are residuals or not`;

  const lastGradient = (shape: Shape, depth: number): number =>
    meanOf(startsOf(result, shape, depth).map(({ gradients }) => gradients.at(-1)!));
  const byDepth = (shape: Shape): [number, number] => [lastGradient(shape, shallow), lastGradient(shape, deep)];
  const [post, pre] = [byDepth("post"), byDepth("pre")];
  const gradients =
    post[1] / post[0] > pre[1] / pre[0]
      ? "That fits Xiong et al., who derive that it falls with depth in pre-norm but not in post-norm."
      : "That is not what Xiong et al. derive: that it falls with depth in pre-norm but not in post-norm.";

  const warming = (shape: Shape, depth: number): number[] =>
    minus(losses(shape, false, depth), losses(shape, true, depth));
  const gains = (shape: Shape): string =>
    depths.map((depth) => `${withMargin(warming(shape, depth))} (${depth} blocks)`).join(", ");
  const needy = depths.filter((depth) => clearSign(minus(warming("post", depth), warming("pre", depth))) === 1);
  const warmUp =
    needy.length > 0
      ? `At ${needy.join(" and ")} blocks that is clearly more for post-norm, as Xiong et al. say.`
      : "At no depth is the difference between the two clear, so these runs do not show that warm-up matters more to post-norm.";
  const behind = clearSign(minus(losses("post", true, deep), losses("pre", true, deep)));
  const rescue =
    behind === 1
      ? `At ${deep} blocks warm-up does not make up for the place of the norms: the loss of post-norm is ${round(meanOf(losses("post", true, deep)))}, that of pre-norm ${round(meanOf(losses("pre", true, deep)))}.`
      : behind === -1
        ? `At ${deep} blocks and with warm-up, post-norm is better than pre-norm.`
        : `At ${deep} blocks and with warm-up, there is no clear difference between post-norm and pre-norm.`;
  return `## Conclusion

**Residuals.** From ${shallow} to ${deep} blocks, the loss of pre-norm ${change("pre", true)}, and that of blocks without residuals ${change("straight", true)}
in the same number of steps. ${residuals} ${collapse}
(the share of a state that is its own is ${round(ownStraight)}; with residuals and pre-norm it is ${round(ownPre)}).

**Norms.** From ${shallow} to ${deep} blocks, the gradient of a new model's last block goes from ${round(post[0])} to ${round(post[1])} in post-norm, and from ${round(pre[0])} to ${round(pre[1])} in
pre-norm. ${gradients}

In training, the loss of post-norm ${change("post", true)} with warm-up, and ${change("post", false)} without it; that of pre-norm ${change("pre", false)} without it.
The loss without warm-up minus that with it is ${gains("post")} for post-norm, and ${gains("pre")} for pre-norm. ${warmUp} ${rescue}`;
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

What do the residual connections do for a deep stack of blocks, and does it matter where the norms are?

## What the papers say

He et al. 2015 (arXiv:1512.03385) can train networks of a hundred layers once each layer adds to its input. Dong et al. 2021 ("Attention is not
all you need", arXiv:2103.03404) show that without residuals attention makes the states of all tokens equal, doubly exponentially with depth.
The original Transformer normalises after each sum (*post-norm*); Xiong et al. 2020 ("On Layer Normalization in the Transformer
Architecture", arXiv:2002.04745) find that its gradients are large near the output, so that it needs a warm-up, and that norms before each
part (*pre-norm*) do not.`;

/** Returns the section on the method. */
function method({ width, heads, steps, batchSize, contextLength, vocabularySize, lr, warmup, runs }: Result): string {
  const seeds = new Set(runs.map(({ seed }) => seed)).size;
  return `## Method

GPTs with a width of ${width} and ${heads} heads learn the characters of Moby Dick (${vocabularySize} of them) for ${steps} steps of ${batchSize} sequences of ${contextLength}, with a learning rate of
${lr} that is reached at once or, with warm-up, in ${warmup} steps, and then stays (AdamW; gradients are clipped at a norm of 1). Weights of the blocks begin with a variance of 1/inputs at
every depth, and those of attention's output with a quarter of it. Blocks without residuals have the norms of pre-norm, but what attention and the feed-forward layers return is all that goes on.
All is repeated with ${seeds} seeds, which set weights and the order of the data.

Before training, one batch tells the norm of the gradient of each block's parameters, and how different the tokens of a sequence still
are after each block: ‖X − X̄‖ / ‖X‖, where X̄ repeats the mean of the sequence's states. It is 0 if all are equal.`;
}

/** Returns the section on what was found. */
function findings(result: Result): string {
  const { depths, runs } = result;
  const lossRows = ways.map((way) => [nameOf(way), ...depths.map((depth) => withMargin(lossesOf(result, way, depth)))]);
  const lost = runs.filter(({ diverged }) => diverged).length;
  const startRows = shapeNames.flatMap((shape) =>
    depths.map((depth) => {
      const chosen = startsOf(result, shape, depth);
      return [
        shapes[shape],
        depth,
        withMargin(chosen.map(({ gradients }) => gradients[0]!)),
        withMargin(chosen.map(({ gradients }) => gradients.at(-1)!)),
        withMargin(chosen.map(({ own }) => own.at(-1)!)),
      ];
    }),
  );
  return `## What was found

The table has the held-out loss in nats per character, by the number of blocks.

${table(["blocks", ...depths.map(String)], lossRows)}

![Loss against depth](plot:loss)

${stuckOf(result)}
${lost === 0 ? "No run diverged." : `${lost} of ${runs.length} runs diverged; they count as even odds.`} Before training:

![Difference of tokens after each block](plot:own)

${table(["", "blocks", "gradient of the first block", "gradient of the last block", "difference of tokens at the end"], startRows)}

The values are means over the seeds with 95 % intervals (Student's t).`;
}

/** Returns the section on where the experiment differs from the papers. */
function differences({ steps, width }: Result): string {
  return `## Where it differs from the papers, and why

Dong et al. leave out feed-forward layers too, which slow the collapse down, and norms; here blocks without residuals keep both. Xiong et al. train a
translator with six layers on each side for 100,000 steps; ${steps} steps at a width of ${width} show the beginning of training only, and a
model that learns slowly in it may catch up later. Gradients are clipped here, which is a help to training without warm-up.`;
}

function plotsOf(result: Result): Page["plots"] {
  const { depths } = result;
  const deep = depths.at(-1)!;
  const average = (shape: Shape): [number, number][] => {
    const chosen = startsOf(result, shape, deep);
    return chosen[0]!.own.map((_, layer) => [layer + 1, meanOf(chosen.map(({ own }) => own[layer]!))]);
  };
  return {
    loss: {
      title: "Held-out loss against depth",
      x: { title: "blocks", log: true },
      y: { title: "nats per character" },
      lines: Object.fromEntries(
        ways.map((way) => [nameOf(way), depths.map((depth) => [depth, meanOf(lossesOf(result, way, depth))])]),
      ),
    },
    own: {
      title: `Difference of tokens in new models of ${deep} blocks`,
      x: { title: "block" },
      y: { title: "‖X − X̄‖ / ‖X‖", domain: [0, 1] },
      lines: Object.fromEntries(shapeNames.map((shape) => [shapes[shape], average(shape)])),
    },
  };
}

export const depth: Experiment<Result> = {
  name: "depth",
  title: "What lets a transformer be deep?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? { width: 8, heads: 2, steps: 2, warmup: 1, batchSize: 2, contextLength: 8, depths: [1, 2] }
      : { width: 32, heads: 4, steps: 300, warmup: 100, batchSize: 16, contextLength: 32, depths: [2, 6, 18] };
    const book = mobyDick();
    const starts: Start[] = [];
    const runs: Run[] = [];
    for (const seed of quick ? [1] : seeds)
      for (const depth of size.depths) {
        for (const shape of shapeNames) starts.push(await startOf(shape, depth, seed, book, size));
        for (const way of ways) runs.push(await train(way, depth, seed, book, size));
      }
    const { depths, ...sizes } = size;
    const { vocabularySize } = book.tokenizer;
    return { ...sizes, vocabularySize, frequencyLoss: frequencyLossOf(book), lr, depths: [...depths], starts, runs };
  },

  recount(result) {
    return Promise.resolve({ ...result, frequencyLoss: frequencyLossOf(mobyDick()) });
  },

  page(result) {
    const text = sections(introduction, method(result), findings(result), verdict(result), differences(result));
    return { text, plots: plotsOf(result) };
  },
};
