// Runs the work of a step on the device: one forward pass over the tokens of all requests, and draws for each request
// whose last token is among them: one after its last token, and one after each of its drafts. Requests that score tokens
// get the losses of those that follow the step's.
import { largest } from "../util/largest.js";
import { tensor } from "../core/creation.js";
import type { Device } from "../core/device.js";
import { infer } from "../generate/causal-model.js";
import { type DrawRow, type Drawn, Draws, drawShape } from "../generate/draws.js";
import type { CausalDecoder, DecoderForwardOptions } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { type Losses, noLosses, readLosses } from "./read-losses.js";
import type { RequestAdapters } from "./request-adapters.js";
import type { Request } from "./request.js";
import { lengthOf, type Work } from "./scheduler.js";

/** Tokens that a step draws and scores, and what they belong to. */
export interface StepOutput {
  /** Work that ends with its request's last token. Each has one drawn token, and one more for each of its drafts. */
  readonly ended: readonly Work[];
  readonly drawn: Promise<Drawn>;
  /** Request of each scored token. */
  readonly scored: readonly Request[];
  readonly losses: Promise<Losses>;
}

/** Row of a pass over the tokens of all work, and the request that it belongs to. */
interface Place {
  readonly request: Request;
  readonly row: number;
}

/** Enqueues a step. Without `adapters`, the model alone computes it. */
export function runStep(
  model: CausalDecoder,
  memory: KvPages,
  work: readonly Work[],
  adapters: RequestAdapters | null = null,
): StepOutput {
  // Requests with the same adapter stand side by side.
  const sorted = [...work].sort((a, b) => lengthOf(a) - lengthOf(b) || a.request.adapterId - b.request.adapterId);
  const ended = sorted.filter(({ request, count }) => count === request.pending && !request.scoring);
  const placesOf = placesAmong(sorted);
  const drawn = ended.flatMap((one) => placesOf(one, lengthOf(one) - one.drafts.length - 1));
  const scores = sorted.flatMap((one) => (one.request.scoring ? scoresOf(one, placesOf(one)) : []));
  const run = (places: readonly Place[], pass: (ids: IntTensor, options: DecoderForwardOptions) => FloatTensor) =>
    infer(model, () => forward(model, memory, sorted, places, pass, adapters));
  if (scores.length > 0) {
    using states = run([...drawn, ...scores], (ids, options) => model.states(ids, options)); // [R, C]
    const project = (rows: FloatTensor, of: readonly Place[]): FloatTensor =>
      infer(model, () => withAdapters(adapters, ownersOf(of), ownersOf(of), () => model.project(rows)));
    using first = narrow(states, 0, 0, Math.max(1, drawn.length));
    using logits = project(first, drawn.length > 0 ? drawn : scores.slice(0, 1));
    using rest = narrow(states, 0, drawn.length, scores.length);
    const targets = scores.map(({ token }) => token);
    const top = largest(scores.map(({ request }) => request.scoring!.top ?? 0));
    return {
      ended,
      ...(ended.length > 0 ? draw(model, logits, ended) : { drawn: nothingDrawn }),
      scored: scores.map(({ request }) => request),
      losses: readLosses(model, rest, targets, (rows, from, to) => project(rows, scores.slice(from, to)), top),
    };
  }
  // A pass of which no logits are wanted still writes keys and values; a row is then computed in vain.
  const places = drawn.length > 0 ? drawn : placesOf(sorted[0]!, lengthOf(sorted[0]!) - 1);
  using logits = run(places, (ids, options) => model.forward(ids, options)); // [R, V]
  return {
    ...(ended.length > 0 ? draw(model, logits, ended) : { drawn: nothing(logits) }),
    ended,
    ...noScores,
  };
}

const nothingDrawn: Promise<Drawn> = Promise.resolve({ ids: new Int32Array(), logprobs: () => null });

/** Scores of a step in which no request scores tokens. */
export const noScores: Pick<StepOutput, "scored" | "losses"> = {
  scored: [],
  losses: Promise.resolve(noLosses),
};

/** Requests, with the number of rows that each has. */
type Owners = readonly (readonly [request: Request, count: number])[];

function ownersOf(places: readonly Place[]): Owners {
  return places.map(({ request }) => [request, 1]);
}

/** Runs a pass over the rows of `all`, of which it selects those of `last` at its end, with the adapters of the requests. */
function withAdapters<T>(adapters: RequestAdapters | null, all: Owners, last: Owners, body: () => T): T {
  const runs = adapters?.runsOf(all);
  return runs ? adapters!.run(runs, adapters!.runsOf(last) ?? [], body) : body();
}

/** Draws from the logits [R, V] after the last token and the drafts of each work. */
function draw(model: CausalDecoder, logits: FloatTensor, ended: readonly Work[]): Pick<StepOutput, "drawn"> {
  const rows = ended.flatMap(drawRows);
  const { device, config } = model;
  const { vocabularySize, contextLength } = config;
  const window = Math.min(contextLength, largest(rows.map(({ tokens }) => tokens.length)));
  using draws = new Draws({ device, vocabularySize }, rows.length, drawShape(rows), window);
  draws.set(rows);
  draws.prepare();
  draws.draw(logits);
  // The draws may go before their result is read, so the promise is not awaited here.
  return { drawn: draws.read() };
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

/** Returns the tokens that follow a work's own and whose scores are wanted, with the rows of the pass before them. */
function scoresOf({ request, count }: Work, places: readonly Place[]): (Place & { readonly token: number })[] {
  const { scoring, computed } = request;
  if (!scoring) return [];
  const from = Math.max(scoring.next, computed + 1);
  return Array.from({ length: Math.max(0, computed + count - from + 1) }, (_, i) => ({
    ...places[from + i - 1 - computed]!,
    token: scoring.tokens[from + i]!,
  }));
}

/** Resolves when the logits are computed: rejects if the step failed, but not if other work on the device did. */
async function nothing(logits: FloatTensor): Promise<Drawn> {
  using one = narrow(logits, 1, 0, 1);
  await one.data();
  return await nothingDrawn;
}

/** Returns a function that returns the rows of a work's tokens, from one of them on, among those of all work. */
function placesAmong(work: readonly Work[]): (one: Work, from?: number) => Place[] {
  let end = 0;
  const starts = new Map(work.map((one) => [one, (end += lengthOf(one)) - lengthOf(one)]));
  return (one, from = 0) => {
    const first = starts.get(one)! + from;
    return Array.from({ length: lengthOf(one) - from }, (_, t) => ({ request: one.request, row: first + t }));
  };
}

/** Returns what a pass over the tokens of all work gives for those at `places` [R] among them: states or logits. */
function forward(
  model: CausalDecoder,
  memory: KvPages,
  work: readonly Work[],
  places: readonly Place[],
  pass: (ids: IntTensor, options: DecoderForwardOptions) => FloatTensor,
  adapters: RequestAdapters | null,
): FloatTensor {
  const { device } = model;
  const size = work.reduce((sum, one) => sum + lengthOf(one), 0);
  const [ids, positions] = [new Int32Array(size), new Int32Array(size)];
  let end = 0;
  for (const { request, count, drafts } of work) {
    ids.set(request.next(count), end);
    ids.set(drafts, end + count);
    for (let t = 0; t < count + drafts.length; t++) positions[end++] = request.computed + t;
  }
  const row = (values: Int32Array): IntTensor => ints(device, values, [1, values.length]);
  const cache = new PagedPass(memory, groupsOf(work, device), row(positions));
  const rows = places.map((place) => place.row);
  const all: Owners = work.map((one) => [one.request, lengthOf(one)]);
  return withAdapters(adapters, all, ownersOf(places), () => pass(row(ids), { cache, rows: ints(device, rows) }));
}

function ints(device: Device, values: ArrayLike<number>, shape = [values.length]): IntTensor {
  return tensor(Int32Array.from(values), shape, { device });
}

/** Returns the groups of requests with equal numbers of tokens, which stand side by side. */
function groupsOf(work: readonly Work[], device: Device): PassGroup[] {
  const groups: PassGroup[] = [];
  for (let first = 0; first < work.length;) {
    const tokens = lengthOf(work[first]!);
    const members = work.filter((one) => lengthOf(one) === tokens).map(({ request }) => request);
    const starts = members.map(({ computed }) => computed);
    const columns = largest(members.map(({ pages }) => pages.length));
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
