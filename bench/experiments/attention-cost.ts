/** Measures what attention costs in time and memory, forward and backward, in five forms. */
import {
  abs,
  add,
  attention,
  device,
  type FloatTensor,
  linearAttention,
  localBlocks,
  matmul,
  max,
  mul,
  parameter,
  randn,
  scope,
  softmax,
  sub,
  sum,
  tensor,
  transpose,
} from "heed";
import { type Experiment, round, table } from "./experiment.js";

/** A form of attention that is measured. */
interface Way {
  name: string;
  /** Markdown that says what the form does; it follows the name. */
  about: string;
  /** Length of the longest sequence that it is measured on. */
  longest: number;
  /** Makes what the form needs beside q, k and v. It is called once for each length, and its time does not count. */
  prepare: (length: number) => Prepared;
}

interface Prepared {
  /** Computes the output [1, T, H, D] of q, k and v [1, T, H, D]. */
  run: (q: FloatTensor, k: FloatTensor, v: FloatTensor) => FloatTensor;
  dispose?: () => void;
}

const heads = 4;
const size = 32;
const window = 256;

const ways: readonly Way[] = [
  {
    name: "dense",
    about: `follows the formula: a product, a mask, a softmax and a product. It makes the whole matrix of scores, T × T for each
  head. The backward pass needs the matrix again, so it stays in memory.`,
    longest: 4096,
    prepare(length) {
      // 0 where a query sees a key, −∞ where it does not.
      const values = new Float32Array(length ** 2).map((_, i) => (i % length > Math.floor(i / length) ? -Infinity : 0));
      const mask = tensor(values, [length, length]);
      const byHead = (x: FloatTensor): FloatTensor => transpose(x, [0, 2, 1, 3]); // [1, H, T, D]
      return {
        run(q, k, v) {
          const scores = mul(matmul(byHead(q), transpose(byHead(k))), 1 / Math.sqrt(size)); // [1, H, T, T]
          return byHead(matmul(softmax(add(scores, mask)), byHead(v)));
        },
        dispose: () => mask.dispose(),
      };
    },
  },
  {
    name: "tiled",
    about: `(\`attention\`) computes the same numbers tile by tile and never has the whole matrix. It leaves out the tiles that
  the causal mask hides (Dao et al. 2022).`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => attention(q, k, v, { causal: true }) }),
  },
  {
    name: "window",
    about: `(\`attention\` with \`window: ${window}\`): a token sees the last ${window} tokens. Scores outside the window are not
  computed.`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => attention(q, k, v, { causal: true, window }) }),
  },
  {
    name: "blocks",
    about: `(\`attention\` with \`localBlocks\`): the sequence is divided into blocks of 64 tokens. Each block sees itself and the
  two before it, the first block, and two others drawn at random (Zaheer et al. 2020).`,
    longest: 16384,
    prepare(length) {
      const blocks = localBlocks({ length, size: 64, window: 2, global: 1, random: 2, causal: true });
      return { run: (q, k, v) => attention(q, k, v, { causal: true, blocks }), dispose: () => blocks.mask.dispose() };
    },
  },
  {
    name: "linear",
    about: `(\`linearAttention\`): weights are φ(q)·φ(k) instead of e^(q·k), so that one matrix of ${size} × ${size} for each head
  holds the whole past (Katharopoulos et al. 2020).`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => linearAttention(q, k, v) }),
  },
];

interface Point {
  length: number;
  /** Time of the fastest pass, because other work on the machine can only add time. */
  milliseconds: number;
  /** Bytes allocated at the peak, beside q, k and v and their gradients. */
  bytes: number;
}

interface Result {
  heads: number;
  size: number;
  points: Record<string, Point[]>;
}

/** Runs one forward and backward pass, drops the gradients, and returns its milliseconds. */
async function pass({ run }: Prepared, inputs: readonly FloatTensor[]): Promise<number> {
  const [q, k, v] = inputs as [FloatTensor, FloatTensor, FloatTensor];
  const start = performance.now();
  scope(() => {
    sum(run(q, k, v)).backward();
  });
  await device().synchronize();
  const elapsed = performance.now() - start;
  for (const input of inputs) input.zeroGrad();
  return elapsed;
}

async function measure(way: Way, length: number, quick: boolean): Promise<Point> {
  const where = device();
  const inputs = [1, 2, 3].map((seed) => parameter(randn([1, length, heads, size], { seed })));
  const prepared = way.prepare(length);
  try {
    const times: number[] = [];
    await pass(prepared, inputs);
    const { live } = where.memory();
    where.resetPeak();
    const start = performance.now();
    while (times.length < (quick ? 1 : 5) || (!quick && performance.now() - start < 2000))
      times.push(await pass(prepared, inputs));
    const gradients = inputs.reduce((total, input) => total + input.size * 4, 0);
    return { length, milliseconds: Math.min(...times), bytes: Math.max(0, where.memory().peak - live - gradients) };
  } finally {
    prepared.dispose?.();
    for (const input of inputs) input.dispose();
  }
}

/** Throws unless dense and tiled attention, which compute the same function, agree. */
async function verify(length: number): Promise<void> {
  const [dense, tiled] = ways as [Way, Way];
  const [q, k, v] = [1, 2, 3].map((seed) => randn([1, length, heads, size], { seed })) as [
    FloatTensor,
    FloatTensor,
    FloatTensor,
  ];
  const [one, other] = [dense.prepare(length), tiled.prepare(length)];
  using difference = scope(() => max(abs(sub(one.run(q, k, v), other.run(q, k, v)))));
  if (!((await difference.item()) < 1e-4))
    throw new Error("attention-cost: expected dense and tiled attention to agree");
  one.dispose?.();
  for (const input of [q, k, v]) input.dispose();
}

export const attentionCost: Experiment<Result> = {
  name: "attention-cost",
  title: "What does attention cost?",

  async run(quick) {
    const lengths = quick ? [64, 128] : [256, 512, 1024, 2048, 4096, 8192, 16384];
    await verify(lengths[0]!);
    const points: Record<string, Point[]> = {};
    for (const way of ways) {
      points[way.name] = [];
      for (const length of lengths)
        if (length <= way.longest) points[way.name]!.push(await measure(way, length, quick));
    }
    return { heads, size, points };
  },

  page({ heads, size, points }) {
    const names = Object.keys(points);
    const lengths = [...new Set(Object.values(points).flatMap((list) => list.map(({ length }) => length)))];
    const at = (name: string, length: number): Point | undefined => points[name]!.find((one) => one.length === length);
    const tableOf = (cell: (point: Point) => number): string =>
      table(
        ["sequence length", ...names],
        lengths.map((length) => [
          length,
          ...names.map((name) => {
            const point = at(name, length);
            return point ? round(cell(point)) : "–";
          }),
        ]),
      );
    const time = ({ milliseconds }: Point): number => milliseconds;
    const megabytes = ({ bytes }: Point): number => bytes / 2 ** 20;
    return {
      text: `In causal attention every token sees all tokens before it. If the sequence is twice as long, the work is four times as
much. In this experiment one layer with ${heads} heads of ${size} numbers runs forward and backward over one
sequence, in f32, in several forms:

${ways
  .filter(({ name }) => names.includes(name))
  .map(({ name, about }) => `- **${name}** ${about}`)
  .join("\n")}

Only the first two forms compute the same function. In the others a token sees less, or less sharply. Whether that is
enough for a model depends on the task.

## Time

![Time against sequence length](plot:time)

The table shows milliseconds of the fastest of several passes, forward and backward together:

${tableOf(time)}

Each length is twice the one before. A quadratic cost grows four times from one line to the next, and a linear cost
twice.

## Memory

![Memory against sequence length](plot:memory)

The table shows MiB at the peak, beside the queries, keys, values and their gradients:

${tableOf(megabytes)}
`,
      plots: {
        time: {
          title: "Attention forward and backward",
          x: { title: "sequence length", log: true },
          y: { title: "milliseconds", log: true },
          lines: Object.fromEntries(names.map((name) => [name, points[name]!.map((one) => [one.length, time(one)])])),
        },
        memory: {
          title: "Memory of attention, forward and backward",
          x: { title: "sequence length", log: true },
          y: { title: "MiB", log: true },
          lines: Object.fromEntries(
            names.map((name) => [name, points[name]!.map((one) => [one.length, Math.max(megabytes(one), 2 ** -6)])]),
          ),
        },
      },
    };
  },
};
