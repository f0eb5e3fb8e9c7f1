// Runs the work of a step on the device: one forward pass over the tokens of all requests, and draws for each request
// whose last token is among them: one after its last token, and one after each of its drafts. Requests that score tokens
// get the losses of those that follow the step's.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import { infer } from "../generate/causal-model.js";
import { type DrawRow, type Drawn, Draws, drawShape } from "../generate/draws.js";
import type { CausalDecoder, DecoderForwardOptions } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { narrow } from "../ops/views.js";
import type { FloatTensor, IntTensor } from "../tensor.js";
import { type Losses, readLosses } from "./read-losses.js";
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

/** Enqueues a step. */
export function runStep(model: CausalDecoder, memory: KvPages, work: readonly Work[]): StepOutput {
  const sorted = [...work].sort((a, b) => lengthOf(a) - lengthOf(b));
  const ended = sorted.filter(({ request, count }) => count === request.pending && !request.scoring);
  const rowsOf = placesOf(sorted);
  const drawn = ended.flatMap((one) => rowsOf(one).slice(-one.drafts.length - 1));
  const scores = sorted.flatMap((one) => scoresOf(one, rowsOf(one)));
  const run = (rows: readonly number[], pass: (ids: IntTensor, options: DecoderForwardOptions) => FloatTensor) =>
    infer(model, () => forward(model, memory, sorted, rows, pass));
  if (scores.length > 0) {
    const rows = [...drawn, ...scores.map(({ row }) => row)];
    using states = run(rows, (ids, options) => model.states(ids, options)); // [R, C]
    using first = narrow(states, 0, 0, Math.max(1, drawn.length));
    using logits = infer(model, () => model.project(first));
    using rest = narrow(states, 0, drawn.length, scores.length);
    const targets = scores.map(({ token }) => token);
    return {
      ended,
      ...(ended.length > 0 ? draw(model, logits, ended) : { drawn: nothingDrawn }),
      scored: scores.map(({ request }) => request),
      losses: readLosses(model, rest, targets),
    };
  }
  // A pass of which no logits are wanted still writes keys and values; a row is then computed in vain.
  using logits = run(drawn.length > 0 ? drawn : [0], (ids, options) => model.forward(ids, options)); // [R, V]
  return {
    ...(ended.length > 0 ? draw(model, logits, ended) : { drawn: nothing(logits) }),
    ended,
    ...{ scored: [], losses: noLosses },
  };
}

const nothingDrawn: Promise<Drawn> = Promise.resolve({ ids: new Int32Array(), logprobs: () => null });
const noLosses: Promise<Losses> = Promise.resolve({ losses: new Float32Array(), choices: new Int32Array() });

/** Draws from the logits [R, V] after the last token and the drafts of each work. */
function draw(model: CausalDecoder, logits: FloatTensor, ended: readonly Work[]): Pick<StepOutput, "drawn"> {
  const rows = ended.flatMap(drawRowsOf);
  const { device, config } = model;
  const { vocabularySize, contextLength } = config;
  const window = Math.min(contextLength, Math.max(...rows.map(({ tokens }) => tokens.length)));
  using draws = new Draws({ device, vocabularySize }, rows.length, drawShape(rows), window);
  draws.set(rows);
  draws.prepare();
  draws.draw(logits);
  // The draws may go before their result is read, so the promise is not awaited here.
  return { drawn: draws.read() };
}

/** Returns the sequences whose next tokens are drawn: the request's tokens, and these with more and more of its drafts. */
function drawRowsOf({ request, drafts }: Work): DrawRow[] {
  const { tokens, prompt, stream, settings, constraint } = request;
  return [
    request,
    ...drafts.map((_, i) => ({
      ...{ tokens: [...tokens, ...drafts.slice(0, i + 1)], prompt, stream, settings, constraint },
    })),
  ];
}

/** Returns the tokens that follow a work's own and whose scores are wanted, with the rows of the pass before them. */
function scoresOf(
  { request, count }: Work,
  rows: readonly number[],
): { request: Request; row: number; token: number }[] {
  const { scoring, computed } = request;
  if (!scoring) return [];
  const from = Math.max(scoring.next, computed + 1);
  return Array.from({ length: Math.max(0, computed + count - from + 1) }, (_, i) => ({
    request,
    row: rows[from + i - 1 - computed]!,
    token: scoring.tokens[from + i]!,
  }));
}

/** Resolves when the logits are computed: rejects if the step failed, but not if other work on the device did. */
async function nothing(logits: FloatTensor): Promise<Drawn> {
  using one = narrow(logits, 1, 0, 1);
  await one.data();
  return nothingDrawn;
}

/** Returns a function that returns the positions of a work's tokens among those of all work. */
function placesOf(work: readonly Work[]): (one: Work) => number[] {
  let end = 0;
  const starts = new Map(work.map((one) => [one, (end += lengthOf(one)) - lengthOf(one)]));
  return (one) => Array.from({ length: lengthOf(one) }, (_, t) => starts.get(one)! + t);
}

/** Returns what a pass over the tokens of all work gives for those at `rows` [R] among them: states or logits. */
function forward(
  model: CausalDecoder,
  memory: KvPages,
  work: readonly Work[],
  rows: readonly number[],
  pass: (ids: IntTensor, options: DecoderForwardOptions) => FloatTensor,
): FloatTensor {
  const { device } = model;
  const ids = work.flatMap(({ request, count, drafts }) => [...request.next(count), ...drafts]);
  const positions = work.flatMap((one) => Array.from({ length: lengthOf(one) }, (_, t) => one.request.computed + t));
  const row = (values: number[]): IntTensor => ints(device, values, [1, values.length]);
  const cache = new PagedPass(memory, groupsOf(work, device), row(positions));
  return pass(row(ids), { cache, rows: ints(device, rows) });
}

function ints(device: Device, values: readonly number[], shape = [values.length]): IntTensor {
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
