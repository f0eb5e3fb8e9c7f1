// Runs the work of a step on the device: one forward pass over the tokens of all requests, and a draw for each request
// whose last token is among them.
import { noGrad } from "../autograd.js";
import { tensor } from "../creation.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { type SampleInputs, sampleInto, SamplingTensors } from "../ops/sample.js";
import { keep, scope } from "../scope.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import type { Request } from "./request.js";
import type { Work } from "./scheduler.js";

/** Tokens that a step draws, and the requests that they belong to. */
export interface StepOutput {
  readonly requests: readonly Request[];
  /** Drawn tokens, i32 [R]; -1 for a row that has no distribution. */
  readonly ids: IntTensor;
}

/** Enqueues a step. Returns null if no request gets a token by it. The caller must dispose the ids. */
export function runStep(model: CausalDecoder, memory: KvPages, work: readonly Work[]): StepOutput | null {
  const { device } = model;
  const sorted = [...work].sort((a, b) => a.count - b.count);
  const drawn = sorted.filter(({ request, count }) => count === request.pending);
  const ints = (values: number[], shape: number[]): IntTensor => tensor(Int32Array.from(values), shape, { device });
  const { training } = model;
  if (training) model.eval();
  try {
    return noGrad(() =>
      scope(() => {
        const spans = sorted.map(({ request: { tokens, computed }, count }) => ({
          ids: tokens.slice(computed, computed + count),
          positions: Array.from({ length: count }, (_, t) => computed + t),
        }));
        const ids = spans.flatMap((span) => span.ids);
        const positions = ints(
          spans.flatMap((span) => span.positions),
          [1, ids.length],
        );
        const cache = new PagedPass(memory, groupsOf(sorted, ints), positions);
        let end = 0;
        const ends = new Map(sorted.map((one) => [one, (end += one.count) - 1]));
        // A pass without any row of logits still writes keys and values; its last row is computed for nothing.
        const rows = drawn.length > 0 ? drawn.map((one) => ends.get(one)!) : [ids.length - 1];
        const logits = model.forward(ints(ids, [1, ids.length]), { cache, rows: ints(rows, [rows.length]) }); // [R, V]
        if (drawn.length === 0) return null;
        const requests = drawn.map(({ request }) => request);
        const offsets = ints(
          requests.map(({ stream, generated }) => stream + generated),
          [requests.length],
        );
        const sampling = requests.map(({ settings }) => ({ ...settings.sampling, seed: settings.seed }));
        const chosen = keep(allocate([requests.length], "i32", device));
        using rowsOptions = new SamplingTensors(sampling, device);
        sampleInto({ ids: chosen, inputs: null }, logits, offsets, rowsOptions, inputsOf(requests, model));
        return { requests, ids: chosen };
      }),
    );
  } finally {
    if (training) model.train();
  }
}

/** Returns the groups of requests with equal numbers of tokens, which stand side by side. */
function groupsOf(work: readonly Work[], ints: (values: number[], shape: number[]) => IntTensor): PassGroup[] {
  const groups: PassGroup[] = [];
  for (let first = 0; first < work.length;) {
    const tokens = work[first]!.count;
    const members = work.slice(first).filter(({ count }) => count === tokens);
    const columns = Math.max(...members.map(({ request }) => request.pages.length));
    groups.push({
      tokens,
      starts: ints(
        members.map(({ request }) => request.computed),
        [members.length],
      ),
      keyLengths: ints(
        members.map(({ request }) => request.computed + tokens),
        [members.length],
      ),
      pages: ints(
        members.flatMap(({ request: { pages } }) => [...pages, ...Array<number>(columns - pages.length).fill(-1)]),
        [members.length, columns],
      ),
    });
    first += members.length;
  }
  return groups;
}

/** Returns the tensors that the requests' sampling options need, one row per request. */
function inputsOf(requests: readonly Request[], model: CausalDecoder): SampleInputs {
  const { device } = model;
  const { vocabularySize } = model.config;
  const count = requests.length;
  const lists = (of: (request: Request) => readonly number[]): IntTensor | null => {
    const rows = requests.map(of);
    const columns = Math.max(...rows.map(({ length }) => length));
    if (columns === 0) return null;
    const values = new Int32Array(count * columns).fill(-1);
    for (const [i, row] of rows.entries()) values.set(row, i * columns);
    return tensor(values, [count, columns], { device });
  };
  const penalised = ({ settings: { sampling } }: Request): boolean =>
    sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
  return {
    history: lists((request) => (request.settings.sampling.repetitionPenalty === 1 ? [] : request.tokens)),
    generated: lists((request) => (penalised(request) ? request.tokens.slice(request.prompt) : [])),
    bias: biasOf(requests, vocabularySize, device),
    allowed: allowedOf(requests, vocabularySize, device),
  };
}

function biasOf(
  requests: readonly Request[],
  vocabularySize: number,
  device: CausalDecoder["device"],
): FloatTensor | null {
  if (requests.every(({ settings }) => settings.logitBias.length === 0)) return null;
  const values = new Float32Array(requests.length * vocabularySize);
  for (const [i, { settings }] of requests.entries())
    for (const [token, bias] of settings.logitBias) values[i * vocabularySize + token] = bias;
  return tensor(values, [requests.length, vocabularySize], { device });
}

function allowedOf(
  requests: readonly Request[],
  vocabularySize: number,
  device: CausalDecoder["device"],
): IntTensor | null {
  const early = ({ generated, settings }: Request): boolean =>
    generated < settings.minTokens && settings.stopTokens.size > 0;
  if (!requests.some(early)) return null;
  const words = Math.ceil(vocabularySize / 32);
  const values = new Int32Array(requests.length * words).fill(-1);
  for (const [i, request] of requests.entries())
    if (early(request))
      for (const token of request.settings.stopTokens) values[i * words + (token >> 5)]! &= ~(1 << (token & 31));
  return tensor(values, [requests.length, words], { device });
}
