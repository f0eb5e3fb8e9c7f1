/** Mixtures and loaders: every sequence once an epoch, weights that are met, and places that can be continued. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DataLoader } from "../../lib/data/data-loader.js";
import { mixSequences, type MixtureOptions } from "../../lib/data/mix-sequences.js";
import { hash } from "../../lib/util/hash.js";
import { GPT } from "../../lib/models/gpt.js";
import { Collectives } from "../../lib/distributed/collectives.js";
import { Permutation } from "../../lib/util/permutation.js";
import { type Batch, Batches } from "../../lib/data/batches.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import type { TrainerOptions } from "../../lib/train/trainer-options.js";
import { TaskTrainer } from "../../lib/train/task-trainer.js";
import { Trainer } from "../../lib/train/trainer.js";
import type { SequenceSource } from "../../lib/data/sequence-source.js";
import { tokenData } from "../../lib/data/token-data.js";
import { editJson } from "../support/edit-json.js";
import { expectError } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";

/** Returns sequences of two tokens that say which source they are from, and which number they have in it. */
function source(part: number, sequences: number, contextLength = 2): SequenceSource {
  return {
    sequences,
    contextLength,
    sequence: (index) => ({ inputs: Int32Array.of(part, index), targets: Int32Array.of(part, index), documents: null }),
  };
}

type Drawn = [part: number, index: number];

const draw = (data: SequenceSource, count: number, from = 0): Drawn[] =>
  Array.from({ length: count }, (_, i) => [...data.sequence(from + i).inputs] as Drawn);

const parts = fc.array(
  fc.record({ sequences: fc.integer({ min: 1, max: 40 }), weight: fc.double({ min: 0.01, max: 10, noNaN: true }) }),
  { minLength: 1, maxLength: 4 },
);
const mix = (of: readonly { sequences: number; weight?: number }[], options?: MixtureOptions) =>
  mixSequences(
    of.map(({ sequences, weight }, i) => ({ data: source(i, sequences), weight })),
    options,
  );

describe("mixSequences", () => {
  test("takes every sequence of a source exactly once an epoch, for any seed", () => {
    fc.assert(
      fc.property(parts, fc.maxSafeNat(), (of, seed) => {
        const drawn = draw(mix(of, { seed }), 1500);
        for (const [part, { sequences }] of of.entries()) {
          const indices = drawn.filter(([from]) => from === part).map(([, index]) => index);
          for (let at = 0; at + sequences <= indices.length; at += sequences)
            expect(new Set(indices.slice(at, at + sequences)).size).toBe(sequences);
        }
      }),
      { numRuns: 25 },
    );
  });

  test("meets the weights exactly in each round, and closely everywhere", () => {
    const data = mix([
      { sequences: 7, weight: 0.5 },
      { sequences: 1000, weight: 0.3 },
      { sequences: 11, weight: 0.2 },
    ]);
    const drawn = draw(data, 2 ** 15);
    const counts = [0, 0, 0];
    for (const [i, [part]] of drawn.entries()) {
      counts[part]!++;
      // A place of a round is any part's with its weight: six standard deviations.
      for (const [part, weight] of [0.5, 0.3, 0.2].entries())
        if (i % 512 === 511) expect(Math.abs(counts[part]! - weight * i)).toBeLessThan(6 * Math.sqrt(i * weight) + 2);
    }
    for (const [part, weight] of [0.5, 0.3, 0.2].entries())
      expect(Math.abs(counts[part]! - weight * 2 ** 15)).toBeLessThan(4);
    const equal = draw(mix([{ sequences: 30 }, { sequences: 10 }]), 2 ** 14).filter(([part]) => part === 0).length;
    expect(Math.abs(equal - 0.75 * 2 ** 14)).toBeLessThan(2);
    expect(
      draw(
        mix([
          { sequences: 3, weight: 1e-12 },
          { sequences: 3, weight: 1 },
        ]),
        2 ** 14,
      ).map(([p]) => p),
    ).toContain(0);
  });

  test("depends on the seed, and shuffles sources of one length differently", () => {
    const of = [
      { sequences: 30, weight: 1 },
      { sequences: 30, weight: 1 },
    ];
    const [a, b] = [draw(mix(of, { seed: 1 }), 60), draw(mix(of, { seed: 2 }), 60)];
    expect(a).not.toEqual(b);
    const order = (part: number) => a.filter(([from]) => from === part).map(([, index]) => index);
    const common = Math.min(order(0).length, order(1).length);
    expect(order(0).slice(0, common)).not.toEqual(order(1).slice(0, common));
    expect(draw(mix([{ sequences: 3 }], { shuffle: false }), 5).map(([, index]) => index)).toEqual([0, 1, 2, 0, 1]);
  });

  test("gives the ranks together what one process gets", () => {
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 5 }), fc.maxSafeNat(), (of, worldSize, seed) => {
        const whole = draw(mix(of, { seed }), 20 * worldSize);
        for (let rank = 0; rank < worldSize; rank++) {
          const own = draw(mix(of, { seed, rank, worldSize }), 20);
          expect(own).toEqual(whole.filter((_, i) => i % worldSize === rank));
        }
      }),
      { numRuns: 20 },
    );
  });

  test.each([
    [() => mixSequences([]), "ERR_RANGE"],
    [() => mix([{ sequences: 2, weight: 0 }]), "ERR_RANGE"],
    [() => mix([{ sequences: 2, weight: NaN }]), "ERR_RANGE"],
    [() => mix([{ sequences: 2 }], { seed: -1 }), "ERR_RANGE"],
    [() => mix([{ sequences: 2 }], { rank: 2, worldSize: 2 }), "ERR_RANGE"],
    [() => mixSequences([{ data: source(0, 2) }, { data: source(1, 2, 3) }]), "ERR_ARGUMENT"],
    [() => mixSequences([{ data: mix([{ sequences: 2 }]) }]), "ERR_ARGUMENT"],
    [() => mixSequences([{ data: tokenData(Int32Array.of(1, 2)) as unknown as SequenceSource }]), "ERR_ARGUMENT"],
  ] as const)("refuses %s", (body, code) => expectError(body, code));
});

describe("DataLoader", () => {
  test("continues at any place as if it had not stopped, with any size of batches", () => {
    fc.assert(
      fc.property(parts, fc.integer({ min: 1, max: 7 }), fc.nat(200), fc.maxSafeNat(), (of, batchSize, stop, seed) => {
        const data = () => mix(of, { seed });
        const whole = new DataLoader(data(), { batchSize: 1, contextLength: 2, seed });
        for (let i = 0; i < stop; i++) whole.next();
        const state = JSON.parse(JSON.stringify(whole.state())) as ReturnType<DataLoader["state"]>;
        const resumed = new DataLoader(data(), { batchSize, contextLength: 2, seed });
        resumed.restore(state);
        const { inputs } = resumed.next().value;
        const expected = Array.from({ length: batchSize }, () => [...whole.next().value.inputs]).flat();
        expect([...inputs]).toEqual(expected);
        expect(resumed.state()).toEqual(whole.state());
      }),
      { numRuns: 30 },
    );
  });

  test("is an endless iterable of the batches of Batches", () => {
    const ids = tokenData(Int32Array.from({ length: 41 }, (_, i) => i));
    const options = { batchSize: 3, contextLength: 4, seed: 5 };
    const loader = new DataLoader(ids, options);
    expect([loader.batchSize, loader.epoch]).toEqual([3, 0]);
    const batches = new Batches(ids, options);
    let step = 0;
    for (const batch of loader) {
      expect(batch).toEqual(batches.batch(step++));
      if (step === 8) break;
    }
    expect([loader.epoch, loader.state().sequences]).toEqual([2, 24]);
  });

  test("refuses the state of other data", () => {
    const loader = new DataLoader(source(0, 5), { batchSize: 1, contextLength: 2 });
    const state = loader.state();
    for (const change of [
      { order: "seed 1" },
      { contextLength: 3 },
      { sequencesPerEpoch: 4 },
      { sequences: -1 },
      { sequences: 0.5 },
    ])
      expectError(() => loader.restore({ ...state, ...change }), "ERR_ARGUMENT");
    // A state of the first version of heed continues in its order, which differs for few sequences.
    const first = new DataLoader(source(0, 5), { batchSize: 5, contextLength: 2 });
    first.restore({ ...state, order: "seed 0" });
    expect(first.state()).toEqual({ ...state, order: "seed 0" });
    const indices = ({ inputs }: Batch): number[] => [...inputs].filter((_, i) => i % 2 === 1);
    expect(indices(first.next().value)).toEqual(Array.from({ length: 5 }, (_, i) => new Permutation(5, 0, 0, 1).at(i)));
    const mixed = (seed: number) =>
      new DataLoader(mix([{ sequences: 5 }], { seed }), { batchSize: 1, contextLength: 2 });
    expectError(() => mixed(1).restore(mixed(2).state()), "ERR_ARGUMENT", /order "seed 1, .+ got "seed 2, /);
    expectError(() => loader.restore(null as unknown as typeof state), "ERR_ARGUMENT");
  });
});

test("a trainer resumes in the middle of an epoch with the losses of an uninterrupted run", async () => {
  const folder = temporaryFolder();
  const data = mix(
    [
      { sequences: 5, weight: 2 },
      { sequences: 9, weight: 1 },
    ],
    { seed: 3 },
  );
  const config = { vocabularySize: 11, contextLength: 2, layers: 1, heads: 1, width: 8, dropout: 0.1 };
  const options = { data, batchSize: 2, gradientAccumulation: 2, schedule: () => 1e-2 };
  const losses = async (more: Pick<TrainerOptions, "model" | "steps" | "resume" | "checkpoint">): Promise<number[]> => {
    const found: number[] = [];
    using trainer = new Trainer({ ...options, ...more });
    await trainer.train({ onStep: ({ loss }) => found.push(loss) });
    return found;
  };
  using model = new GPT(config, { seed: 1 });
  const whole = await losses({ model, steps: 6 });
  using other = new GPT(config, { seed: 1 });
  const before = await losses({ model: other, steps: 3, checkpoint: { folder } });
  const resume = await loadCheckpoint(folder);
  using again = instanceOf(GPT, resume.model);
  expect(resume.state.position).toMatchObject({ sequences: 12, sequencesPerEpoch: 14 });
  expect([...before, ...(await losses({ model: again, steps: 6, resume }))]).toEqual(whole);
});

const tiny = { vocabularySize: 11, contextLength: 2, layers: 1, heads: 1, width: 8 };

test("trainers that divide the data refuse data that is divided already", () => {
  using model = new GPT(tiny, { seed: 1 });
  const collectives = Object.create(Collectives.prototype, { rank: { value: 1 }, size: { value: 2 } }) as Collectives;
  const whole = mix([{ sequences: 8 }]);
  const share = mix([{ sequences: 8 }], { rank: 1, worldSize: 2 });
  const options = { model, batchSize: 1, steps: 1, distributed: { collectives } };
  const refusal =
    /expected data that is not divided, .+ 2 processes, got the share of rank 1 of 2; leave rank and worldSize/;
  expectError(() => new Trainer({ ...options, data: share }), "ERR_ARGUMENT", refusal);
  expectError(
    () => new Trainer({ ...options, data: whole, validation: share }),
    "ERR_ARGUMENT",
    /expected validation that is not divided/,
  );
  const loader = new DataLoader(share, { batchSize: 1, contextLength: 2 });
  const task = () => model.wte.weight;
  expectError(() => new TaskTrainer({ ...options, task, data: loader }), "ERR_ARGUMENT", refusal);
  // A loop of its own in each process divides the data itself.
  new Trainer({ model, data: share, batchSize: 1, steps: 1 }).dispose();
});

describe("a checkpoint knows the order of its data", () => {
  const of = [{ sequences: 5 }, { sequences: 9 }];
  /** Trains up to a step, and returns the sequences that were read. */
  const read = async (
    data: SequenceSource,
    folder: string,
    { steps, resumed = false, newData = false }: { steps: number; resumed?: boolean; newData?: boolean },
  ): Promise<Drawn[]> => {
    const seen: Drawn[] = [];
    const watched = (source: SequenceSource): SequenceSource => ({
      ...source,
      sequence(index) {
        const sequence = source.sequence(index);
        seen.push([...sequence.inputs] as Drawn);
        return sequence;
      },
      ...(source.withOrder && { withOrder: (version) => watched(source.withOrder!(version)) }),
    });
    const resume = resumed ? await loadCheckpoint(folder) : null;
    using model = resume ? instanceOf(GPT, resume.model) : new GPT(tiny, { seed: 1 });
    using trainer = new Trainer({
      model,
      data: watched(data),
      batchSize: 2,
      steps,
      resume,
      newData,
      checkpoint: { folder },
    });
    await trainer.train();
    return seen;
  };
  const resuming = (data: SequenceSource, folder: string) => read(data, folder, { steps: 6, resumed: true });

  test("and refuses another one, unless the data is new", async () => {
    const folder = temporaryFolder();
    await read(mix(of, { seed: 1 }), folder, { steps: 3 });
    for (const other of [
      mix(of, { seed: 2 }),
      mix(of, { seed: 1, shuffle: false }),
      mix([of[0]!, { ...of[1]!, weight: 1 }], { seed: 1 }),
      source(0, 14),
    ])
      await expect(resuming(other, folder)).rejects.toMatchObject({
        code: "ERR_ARGUMENT",
        message: expect.stringMatching(/the order that the run has read \("seed 1, .+ set newData: true/) as string,
      });
    const whole = await read(mix(of, { seed: 1 }), temporaryFolder(), { steps: 6 });
    expect(await resuming(mix(of, { seed: 1 }), folder)).toEqual(whole.slice(6));
    const fresh = await read(mix(of, { seed: 2 }), folder, { steps: 8, resumed: true, newData: true });
    expect(fresh).toEqual(draw(mix(of, { seed: 2 }), 4));
  });

  test.each([
    ["a mixture", () => mix([{ sequences: 9 }], { seed: 1 }), hashedSeed(1)],
    ["a source", () => source(0, 9), 0],
  ] as const)("and an old one, which has none, goes on in the order of before: %s", async (_, data, seed) => {
    const folder = temporaryFolder();
    await read(data(), folder, { steps: 2 });
    editJson((await loadCheckpoint(folder)).path + "/trainer.json", ({ order, ...json }) => {
      expect(typeof order).toBe("string");
      return json;
    });
    const before = Array.from({ length: 9 }, (_, i) => new Permutation(9, seed, 0, 1).at(i));
    const first = await read(data(), folder, { steps: 3, resumed: true });
    expect(first.map(([, index]) => index)).toEqual(before.slice(4, 6));
    // From now on the checkpoint says it.
    const second = await read(data(), folder, { steps: 4, resumed: true });
    expect(second.map(([, index]) => index)).toEqual(before.slice(6, 8));
  });
});

/** Returns the seed with which a mixture shuffles its first source. */
function hashedSeed(seed: number): number {
  return seed + (hash(seed, 0) >>> 0);
}
