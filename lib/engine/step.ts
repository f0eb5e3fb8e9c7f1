// Runs the work of a step on the device: one forward pass over the tokens of all requests, and a draw for each request
// whose last token is among them.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import { infer } from "../generate/causal-model.js";
import { type Drawn, Draws, drawShape } from "../generate/draws.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { Request } from "./request.js";
import type { Work } from "./scheduler.js";

/** Tokens that a step draws, and the requests that they belong to. */
export interface StepOutput {
  readonly requests: readonly Request[];
  readonly drawn: Promise<Drawn>;
}

/** Enqueues a step. */
export function runStep(model: CausalDecoder, memory: KvPages, work: readonly Work[]): StepOutput {
  const sorted = [...work].sort((a, b) => a.count - b.count);
  const drawn = sorted.filter(({ request, count }) => count === request.pending);
  using logits = infer(model, () => forward(model, memory, sorted, drawn)); // [R, V]
  if (drawn.length === 0) return { requests: [], drawn: nothing(logits) };
  const requests = drawn.map(({ request }) => request);
  const { device, config } = model;
  const { vocabularySize, contextLength } = config;
  const window = Math.min(contextLength, Math.max(...requests.map(({ tokens }) => tokens.length)));
  using draws = new Draws({ device, vocabularySize }, requests.length, drawShape(requests), window);
  draws.set(requests);
  draws.prepare();
  draws.draw(logits);
  return { requests, drawn: draws.read() };
}

/** Resolves when the logits are computed: rejects if the step failed, but not if other work on the device did. */
async function nothing(logits: FloatTensor): Promise<Drawn> {
  using one = narrow(logits, 1, 0, 1);
  await one.data();
  return { ids: new Int32Array(), logprobs: () => null };
}

/** Returns the logits [R, V] of the last token of each work of `drawn`, after the tokens of all `work`. */
function forward(model: CausalDecoder, memory: KvPages, work: readonly Work[], drawn: readonly Work[]): FloatTensor {
  const { device } = model;
  const ids = work.flatMap(({ request, count }) => request.next(count));
  const positions = work.flatMap(({ request: { computed }, count }) =>
    Array.from({ length: count }, (_, t) => computed + t),
  );
  let end = 0;
  const ends = new Map(work.map((one) => [one, (end += one.count) - 1]));
  // A pass of which no logits are wanted still writes keys and values; its last row is computed in vain.
  const rows = drawn.length > 0 ? drawn.map((one) => ends.get(one)!) : [ids.length - 1];
  const row = (values: number[]): IntTensor => ints(device, values, [1, values.length]);
  const cache = new PagedPass(memory, groupsOf(work, device), row(positions));
  return model.forward(row(ids), { cache, rows: ints(device, rows) });
}

function ints(device: Device, values: number[], shape = [values.length]): IntTensor {
  return tensor(Int32Array.from(values), shape, { device });
}

/** Returns the groups of requests with equal numbers of tokens, which stand side by side. */
function groupsOf(work: readonly Work[], device: Device): PassGroup[] {
  const groups: PassGroup[] = [];
  for (let first = 0; first < work.length;) {
    const tokens = work[first]!.count;
    const members = work.filter(({ count }) => count === tokens).map(({ request }) => request);
    const starts = members.map(({ computed }) => computed);
    const columns = Math.max(...members.map(({ pages }) => pages.length));
    groups.push({
      tokens,
      starts: ints(device, starts),
      keyLengths: ints(
        device,
        starts.map((start) => start + tokens),
      ),
      pages: ints(
        device,
        members.flatMap(({ pages }) => [...pages, ...Array<number>(columns - pages.length).fill(-1)]),
        [members.length, columns],
      ),
    });
    first += members.length;
  }
  return groups;
}
