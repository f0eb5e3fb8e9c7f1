// Runs the work of a step on the device: one forward pass over the tokens of all requests, and draws for each request
// whose last token is among them: one after its last token, and one after each of its drafts.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import { infer } from "../generate/causal-model.js";
import { type DrawRow, type Drawn, Draws, drawShape } from "../generate/draws.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import type { RequestAdapters } from "./request-adapters.js";
import { lengthOf, type Work } from "./scheduler.js";

/** Tokens that a step draws, and the work that they belong to. */
export interface StepOutput {
  /** Work that ends with its request's last token. Each has one drawn token, and one more for each of its drafts. */
  readonly ended: readonly Work[];
  readonly drawn: Promise<Drawn>;
}

/** Enqueues a step. Without `adapters`, the model alone computes it. */
export function runStep(
  model: CausalDecoder,
  memory: KvPages,
  work: readonly Work[],
  adapters: RequestAdapters | null = null,
): StepOutput {
  // Requests with the same adapter stand side by side.
  const sorted = [...work].sort((a, b) => lengthOf(a) - lengthOf(b) || a.request.root - b.request.root);
  const ended = sorted.filter(({ request, count }) => count === request.pending);
  using logits = infer(model, () => forward(model, memory, sorted, ended, adapters)); // [R, V]
  if (ended.length === 0) return { ended, drawn: nothing(logits) };
  const rows = ended.flatMap(drawRows);
  const { device, config } = model;
  const { vocabularySize, contextLength } = config;
  const window = Math.min(contextLength, Math.max(...rows.map(({ tokens }) => tokens.length)));
  using draws = new Draws({ device, vocabularySize }, rows.length, drawShape(rows), window);
  draws.set(rows);
  draws.prepare();
  draws.draw(logits);
  return { ended, drawn: draws.read() };
}

/** Returns the sequences whose next tokens are drawn: the request's tokens, and these with more and more of its drafts. */
export function drawRows({ request, drafts }: Work): DrawRow[] {
  const { tokens, prompt, stream, settings, constraint } = request;
  return [
    request,
    ...drafts.map((_, i) => ({
      ...{ tokens: [...tokens, ...drafts.slice(0, i + 1)], prompt, stream, settings, constraint },
    })),
  ];
}

/** Resolves when the logits are computed: rejects if the step failed, but not if other work on the device did. */
async function nothing(logits: FloatTensor): Promise<Drawn> {
  using one = narrow(logits, 1, 0, 1);
  await one.data();
  return { ids: new Int32Array(), logprobs: () => null };
}

/** Returns the logits [R, V] of the last token and the drafts of each work of `ended`, after the tokens of all `work`. */
function forward(
  model: CausalDecoder,
  memory: KvPages,
  work: readonly Work[],
  ended: readonly Work[],
  adapters: RequestAdapters | null,
): FloatTensor {
  const { device } = model;
  const ids = work.flatMap(({ request, count, drafts }) => [...request.next(count), ...drafts]);
  const positions = work.flatMap((one) => Array.from({ length: lengthOf(one) }, (_, t) => one.request.computed + t));
  let end = 0;
  const ends = new Map(work.map((one) => [one, (end += lengthOf(one)) - 1]));
  const rowsOf = (one: Work): number[] =>
    Array.from({ length: one.drafts.length + 1 }, (_, i) => ends.get(one)! - one.drafts.length + i);
  // A pass of which no logits are wanted still writes keys and values; its last row is computed in vain.
  const rows = ended.length > 0 ? ended.flatMap(rowsOf) : [ids.length - 1];
  const row = (values: number[]): IntTensor => ints(device, values, [1, values.length]);
  const cache = new PagedPass(memory, groupsOf(work, device), row(positions));
  const pass = (): FloatTensor => model.forward(row(ids), { cache, rows: ints(device, rows) });
  const runs = adapters?.runsOf(work.map((one) => [one.request, lengthOf(one)]));
  if (!runs) return pass();
  const last = ended.length > 0 ? ended : work.slice(-1);
  const drawn = last.map((one) => [one.request, ended.length > 0 ? one.drafts.length + 1 : 1] as const);
  return adapters!.run(runs, adapters!.runsOf(drawn) ?? [], pass);
}

function ints(device: Device, values: number[], shape = [values.length]): IntTensor {
  return tensor(Int32Array.from(values), shape, { device });
}

/** Returns the groups of requests with equal numbers of tokens, which stand side by side. */
function groupsOf(work: readonly Work[], device: Device): PassGroup[] {
  const groups: PassGroup[] = [];
  for (let first = 0; first < work.length;) {
    const tokens = lengthOf(work[first]!);
    const members = work.filter((one) => lengthOf(one) === tokens).map(({ request }) => request);
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
