// ZeRO-1: every process keeps and updates its share of the optimiser's state, and then fetches the parameters that the
// others have updated.
//
// See Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", arXiv:1910.02054.
import { noGrad } from "../core/autograd.js";
import { ops } from "../core/native.js";
import type { Entry } from "../optim/entry.js";
import type { Optimizer } from "../optim/optimizer.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import type { Collectives } from "./collectives.js";

/** Number of elements of each process that are exchanged at once: 4 MiB. */
const chunk = 2 ** 20;

/** Elements of a parameter, and their place in the chunk of the process that they belong to. */
interface Piece {
  readonly parameter: FloatTensor;
  readonly begin: number;
  readonly size: number;
  readonly offset: number;
}

/** Exchange of updated parameters and of states between the processes. */
export class ShardExchange {
  readonly #collectives: Collectives;
  readonly #optimizer: Optimizer;

  /** @param optimizer optimiser that was made with `shard` */
  constructor(collectives: Collectives, optimizer: Optimizer) {
    this.#collectives = collectives;
    this.#optimizer = optimizer;
  }

  /** Enqueues the exchange of the parameters that are trained. */
  gatherParameters(): void {
    const { rank, size } = this.#collectives;
    const rounds = this.#rounds();
    noGrad(() => {
      for (const { pieces, length } of rounds) {
        const { device } = pieces.flat()[0]!.parameter;
        const own: FloatTensor = allocate([length], "f32", device, false);
        const all: FloatTensor = allocate([size * length], "f32", device, false);
        copyPieces(pieces[rank]!, own, 0, "from parameters");
        this.#collectives.allGather(all, own).wait();
        for (const [from, of] of pieces.entries())
          if (from !== rank) copyPieces(of, all, from * length, "to parameters");
        own.dispose();
        all.dispose();
      }
    });
    for (const { parameter } of this.#optimizer.entries) if (!parameter.isFrozen) parameter.overwritten();
  }

  /** Resolves to all elements of a state tensor, which the caller disposes. All processes call it in the same order. */
  collect({ parameter, parts, state }: Entry, kind: string): Promise<FloatTensor> {
    const { rank, size } = this.#collectives;
    const own = state?.[kind];
    const { device, shape } = parameter;
    const owners = parts!.flatMap(({ begin, end }, i) => (end > begin ? [i] : []));
    const whole: FloatTensor = allocate(shape, "f32", device, false);
    if (owners.length === 1) {
      if (own) ops.copy({ out: whole, inp: own });
      this.#collectives.broadcast(whole, { root: owners[0]! }).wait();
    } else if (owners.length > 1) {
      const length = Math.max(...parts!.map(({ begin, end }) => end - begin));
      const mine: FloatTensor = allocate([length], "f32", device, false);
      const all: FloatTensor = allocate([size * length], "f32", device, false);
      ops.fill({ out: mine, value: 0 });
      if (own) copyPart(mine, 0, own, 0, own.size);
      this.#collectives.allGather(all, mine).wait();
      const flat = whole.viewAs([whole.size], [1], 0, false);
      for (const i of owners) {
        const { begin, end } = parts![i]!;
        if (i === rank) copyPart(flat, begin, own!, 0, end - begin);
        else copyPart(flat, begin, all, i * length, end - begin);
      }
      for (const tensor of [flat, mine, all]) tensor.dispose();
    }
    return Promise.resolve(whole);
  }

  /** Returns the pieces of each process, in rounds of at most `chunk` elements a process. */
  #rounds(): { pieces: Piece[][]; length: number }[] {
    const { size } = this.#collectives;
    const rounds: { pieces: Piece[][]; length: number }[] = [];
    for (let rank = 0; rank < size; rank++) {
      let at = 0;
      for (const { parameter, parts } of this.#optimizer.entries) {
        if (parameter.isFrozen) continue;
        const { begin, end } = parts![rank]!;
        for (let from = begin; from < end;) {
          const [round, offset] = [Math.floor(at / chunk), at % chunk];
          const length = Math.min(end - from, chunk - offset);
          const { pieces } = (rounds[round] ??= { pieces: Array.from({ length: size }, () => []), length: 0 });
          pieces[rank]!.push({ parameter, begin: from, size: length, offset });
          rounds[round].length = Math.max(rounds[round].length, offset + length);
          from += length;
          at += length;
        }
      }
    }
    return rounds;
  }
}

/** Copies pieces between their parameters and a buffer, in which their chunk begins at `base`. */
function copyPieces(
  pieces: readonly Piece[],
  buffer: FloatTensor,
  base: number,
  direction: "from parameters" | "to parameters",
): void {
  if (pieces.length === 0) return;
  const inBuffer = pieces.map(({ size, offset }) => buffer.viewAs([size], [1], base + offset, false));
  const inParameters = pieces.map(({ parameter, begin, size }) => parameter.viewAs([size], [1], begin, false));
  if (direction === "from parameters") ops.copy_list({ outs: inBuffer, inps: inParameters });
  else ops.copy_list({ outs: inParameters, inps: inBuffer });
  for (const view of [...inBuffer, ...inParameters]) view.dispose();
}

function copyPart(out: FloatTensor, to: number, inp: FloatTensor, from: number, size: number): void {
  const views = [out.viewAs([size], [1], to, false), inp.viewAs([size], [1], from, false)] as const;
  ops.copy({ out: views[0], inp: views[1] });
  for (const view of views) view.dispose();
}
