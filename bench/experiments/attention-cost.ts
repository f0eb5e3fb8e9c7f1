/** What attention costs in time and memory, forward and backward, in five ways. */
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

interface Way {
  name: string;
  /** For people: what it does. */
  about: string;
  /** The longest sequence that it is measured on. */
  longest: number;
  /** Makes what it needs beside q, k and v for a length, which is not counted; called once a length. */
  prepare: (length: number) => Prepared;
}

interface Prepared {
  /** q, k, v [1, T, H, D] → [1, T, H, D] */
  run: (q: FloatTensor, k: FloatTensor, v: FloatTensor) => FloatTensor;
  dispose?: () => void;
}

const heads = 4;
const size = 32;
const window = 256;

const ways: readonly Way[] = [
  {
    name: "dense",
    about: `makes the whole matrix of scores, T × T for each head, as the formula is written: a product, a mask, a softmax,
  a product. The backward pass needs the matrix again, so it stays in memory.`,
    longest: 4096,
    prepare(length) {
      // 0 where a query may look, −∞ where not.
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
    about: `(\`attention\`) computes the same numbers tile by tile and never has the matrix; it leaves out the tiles that the
  causal mask hides (Dao et al. 2022).`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => attention(q, k, v, { causal: true }) }),
  },
  {
    name: "window",
    about: `(\`attention\` with \`window: ${window}\`): a token looks at the last ${window}. What lies outside is not computed.`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => attention(q, k, v, { causal: true, window }) }),
  },
  {
    name: "blocks",
    about: `(\`attention\` with \`localBlocks\`): of blocks of 64 tokens, each looks at itself and the two before it, at the first
  one, and at two others drawn at random (Zaheer et al. 2020).`,
    longest: 16384,
    prepare(length) {
      const blocks = localBlocks({ length, size: 64, window: 2, global: 1, random: 2, causal: true });
      return { run: (q, k, v) => attention(q, k, v, { causal: true, blocks }), dispose: () => blocks.mask.dispose() };
    },
  },
  {
    name: "linear",
    about: `(\`linearAttention\`): weights are φ(q)·φ(k) instead of e^(q·k), so that all that is past fits into one matrix of
  ${size} × ${size} a head (Katharopoulos et al. 2020).`,
    longest: 16384,
    prepare: () => ({ run: (q, k, v) => linearAttention(q, k, v) }),
  },
];

interface Point {
  length: number;
  /** Of the fastest pass: what else the machine does only adds. */
  milliseconds: number;
  /** What is allocated at most, beside q, k and v and their gradients. */
  bytes: number;
}

interface Result {
  heads: number;
  size: number;
  points: Record<string, Point[]>;
}

/** One forward and backward pass; gradients end with it. */
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

/** Dense and tiled attention are one function: throws unless they agree. */
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
      text: `In attention every token looks at all before it: twice the length, four times the work. Here one layer with
${heads} heads of ${size} numbers goes forward and backward over one sequence, in f32, in several ways:

${ways
  .filter(({ name }) => names.includes(name))
  .map(({ name, about }) => `- **${name}** ${about}`)
  .join("\n")}

Only the first two compute the same. With the others a token sees less, or less sharply; whether a model can do with
that is a question of the task.

## Time

![Time against sequence length](plot:time)

Milliseconds, forward and backward, the fastest of several passes:

${tableOf(time)}

From one length to the next, twice as long, a square grows four times and a line twice.

## Memory

![Memory against sequence length](plot:memory)

MiB at the peak, beside queries, keys, values and their gradients:

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
