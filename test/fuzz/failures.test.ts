/**
 * Random programs in which operations fail, and a twin that follows each failure through everything that is computed
 * from it. Every read must resolve to the twin's numbers, or reject with a failure that the twin knows.
 */
import fc from "fast-check";
import { expect } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Graph } from "../../lib/core/graph.js";
import { ops } from "../../lib/core/native.js";
import { add, maximum } from "../../lib/ops/binary.js";
import { embedding } from "../../lib/ops/embedding.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { devicesHere, onEachDevice } from "../support/targets.js";
import { fuzz } from "./fuzz.js";

const rows = 3;
const columns = 2;
const size = rows * columns;
const slots = 4;

/**
 * The expected values of a tensor, and the failures with one of which reading it must reject (none if it is intact).
 */
interface Twin {
  values: number[];
  causes: ReadonlySet<string>;
}

const kinds = [
  "add",
  "maximum",
  "rows",
  "write rows",
  "write sum",
  "set",
  "set row",
  "travel",
  "graph",
  "read",
  "wait",
];
const command = fc.record({
  kind: fc.constantFrom(...kinds),
  to: fc.nat(slots - 1),
  a: fc.nat(slots - 1),
  b: fc.nat(slots - 1),
  // A table has three rows, so one id in eight is wrong.
  ids: fc
    .array(fc.nat(23), { minLength: rows, maxLength: rows })
    .map((list) => list.map((id) => (id < 21 ? id % 3 : id))),
  number: fc.nat(9),
});
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never;

onEachDevice((name) => {
  const elsewhere = devicesHere.find(({ device }) => device !== name)?.device ?? name;

  const union = (...twins: Twin[]): ReadonlySet<string> => new Set(twins.flatMap(({ causes }) => [...causes]));
  const rowsOf = (table: Twin, ids: readonly number[]): Twin => {
    const wrong = ids.findIndex((id) => id >= rows);
    if (wrong >= 0)
      return {
        values: Array<number>(size).fill(0),
        causes: new Set([
          ...table.causes,
          `embedding_forward: expected ids in [0, ${rows}), got ${ids[wrong]} at position ${wrong}`,
        ]),
      };
    return { values: ids.flatMap((id) => table.values.slice(id * columns, (id + 1) * columns)), causes: table.causes };
  };
  const plus = (a: Twin, b: Twin): Twin => ({
    values: a.values.map((x, i) => Math.fround(x + b.values[i]!)),
    causes: union(a, b),
  });

  async function run(program: readonly Command[]): Promise<void> {
    const tensors: FloatTensor[] = [];
    const twins: Twin[] = [];
    const reads: Promise<void>[] = [];
    for (let i = 0; i < slots; i++) {
      const values = Array.from({ length: size }, (_, j) => i + j / 8);
      tensors.push(tensor(values, [rows, columns]));
      twins.push({ values, causes: new Set() });
    }
    // A graph that gathers rows of the first tensor, adds the second to them, and writes the result to the third.
    const graphIds = tensor(Int32Array.of(0, 1, 2));
    const body = (): void =>
      scope(() => ops.copy({ out: tensors[2]!, inp: add(embedding(graphIds, tensors[0]!), tensors[1]!) }));
    const graph = Graph.capture(deviceOf(), body);
    const kept: Tensor[] = [graphIds];

    const check = async (read: Promise<Float32Array>, { values, causes }: Twin): Promise<void> => {
      const outcome = await read.then(
        (data) => [...data],
        (error: unknown) => (error as Error).message,
      );
      if (causes.size === 0) expect(outcome).toEqual(values);
      else expect([...causes]).toContain(outcome);
    };
    /** The graph uses the same tensors each time, so other values are written into their memory. */
    const put = (slot: number, value: FloatTensor, twin: Twin): void => {
      if (slot === slots - 1) {
        tensors[slot]!.dispose();
        tensors[slot] = value;
      } else {
        ops.copy({ out: tensors[slot]!, inp: value });
        value.dispose();
      }
      twins[slot] = twin;
    };

    for (const { kind, to, a, b, ids, number } of program) {
      const [x, y, out] = [tensors[a]!, tensors[b]!, tensors[to]!];
      const [p, q] = [twins[a]!, twins[b]!];
      using index = tensor(Int32Array.from(ids));
      const list = Array.from({ length: size }, (_, i) => number + i);
      if (kind === "add")
        put(to, add(x, number / 8), { ...p, values: p.values.map((v) => Math.fround(v + number / 8)) });
      else if (kind === "maximum")
        put(to, maximum(x, y), { values: p.values.map((v, i) => Math.max(v, q.values[i]!)), causes: union(p, q) });
      else if (kind === "rows") put(to, embedding(index, x), rowsOf(p, ids));
      else if (kind === "write rows" && to !== a) {
        ops.embedding_forward({ out, ids: index, weight: x });
        const written = rowsOf(p, ids);
        // If it fails, nothing is written, so that an earlier failure may still be the cause.
        twins[to] = ids.every((id) => id < rows) ? written : { ...written, causes: union(written, twins[to]!) };
      } else if (kind === "write sum") {
        using sum = add(x, y);
        ops.copy({ out, inp: sum });
        twins[to] = plus(p, q);
      } else if (kind === "set") {
        out.set(list);
        twins[to] = { values: list, causes: new Set() };
      } else if (kind === "set row") {
        using row = narrow(out, 0, a % rows, 1);
        row.set([number, number]);
        const values = twins[to]!.values.with((a % rows) * columns, number).with((a % rows) * columns + 1, number);
        twins[to] = { ...twins[to]!, values };
      } else if (kind === "travel") {
        using there = x.to(elsewhere);
        using changed = add(there, 1);
        reads.push(check(changed.data(), { ...p, values: p.values.map((v) => Math.fround(v + 1)) }));
        put(to, changed.to(name), { ...p, values: p.values.map((v) => Math.fround(v + 1)) });
      } else if (kind === "graph") {
        graphIds.set(ids);
        graph.launch();
        twins[2] = plus(rowsOf(twins[0]!, ids), twins[1]!);
      } else if (kind === "read") reads.push(check(x.data(), p));
      else if (kind === "wait") await reads.at(-1);
    }
    for (const [i, x] of tensors.entries()) reads.push(check(x.data(), twins[i]!));
    graph.dispose();
    for (const x of [...kept, ...tensors]) x.dispose();
    await Promise.all(reads);
    // Reads the failures that nobody has read, so that they do not affect the next program.
    for (let told = false; !told;)
      told = await deviceOf()
        .synchronize()
        .then(
          () => true,
          () => false,
        );
  }

  fuzz(
    "programs with failures",
    fc.array(command, { minLength: 1, maxLength: 40 }),
    name === "cpu" ? { ci: 500, nightly: 50_000 } : { ci: 100, nightly: 5_000 },
    run,
  );
});
