// Runs the work of a step on the device: one forward pass over the tokens of all requests, and a draw for each request
// whose last token is among them.
import { tensor } from "../creation.js";
import type { Device } from "../device.js";
import { infer } from "../generate/causal-model.js";
import { allowedTokens, logitBiases, tokenRows } from "../generate/logit-rules.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { type KvPages, PagedPass, type PassGroup } from "../nn/kv-pages.js";
import { type SampleInputs, sampleInto, SamplingTensors } from "../ops/sample.js";
import { keep, scope } from "../scope.js";
import { allocate, type FloatTensor, type IntTensor } from "../tensor.js";
import { type Request, samplingOf } from "./request.js";
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
  using logits = infer(model, () => forward(model, memory, sorted, drawn)); // [R, V]
  if (drawn.length === 0) return null;
  const requests = drawn.map(({ request }) => request);
  const ids = keep(allocate([requests.length], "i32", device));
  scope(() => {
    const offsets = ints(
      device,
      requests.map(({ stream, generated }) => stream + generated),
    );
    using sampling = new SamplingTensors(requests.map(samplingOf), device);
    sampleInto({ ids, inputs: null }, logits, offsets, sampling, inputsOf(requests, model));
  });
  return { requests, ids };
}

/** Returns the logits [R, V] of the last token of each work of `drawn`, after the tokens of all `work`. */
function forward(model: CausalDecoder, memory: KvPages, work: readonly Work[], drawn: readonly Work[]): FloatTensor {
  const { device } = model;
  const ids = work.flatMap(({ request: { tokens, computed }, count }) => tokens.slice(computed, computed + count));
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

/** Returns the tensors that the requests' sampling options need, one row per request. */
function inputsOf(requests: readonly Request[], { config: { vocabularySize }, device }: CausalDecoder): SampleInputs {
  const all = <T>(of: (request: Request) => T): T[] => requests.map(of);
  const none: ReadonlySet<number> = new Set();
  return {
    history: tokenRows(
      all(({ settings, tokens }) => (settings.sampling.repetitionPenalty === 1 ? [] : tokens)),
      device,
    ),
    generated: tokenRows(
      all((request) => (penalised(request) ? request.tokens.slice(request.prompt) : [])),
      device,
    ),
    bias: logitBiases(
      all(({ settings }) => settings.logitBias),
      vocabularySize,
      device,
    ),
    allowed: allowedTokens(
      all(({ settings, generated }) => (generated < settings.minTokens ? settings.stopTokens : none)),
      vocabularySize,
      device,
    ),
  };
}

/** Returns true if the penalties for generated tokens concern a request. */
function penalised({ settings: { sampling } }: Request): boolean {
  return sampling.presencePenalty !== 0 || sampling.frequencyPenalty !== 0;
}
