import { zeros } from "../creation.js";
import type { Device } from "../device.js";
import { keep } from "../scope.js";
import { type NextTokens, writeAllowed } from "../structured/constraint.js";
import type { TokenSet } from "../structured/token-set.js";
import type { IntTensor } from "../tensor.js";

/** Tokens that may follow in a row. */
export interface AllowedRow {
  /** Form that the text has to have; null if it has none. */
  readonly constraint: NextTokens | null;
  readonly stopTokens: ReadonlySet<number>;
  /** True if the text may end, as far as its form allows it. */
  readonly mayStop: boolean;
}

/** Facts from which the bits of a row follow. */
interface Known extends Omit<AllowedRow, "constraint"> {
  readonly tokens: TokenSet | null;
  readonly accepts: boolean;
}

const anyTokens: Known = { tokens: null, accepts: true, stopTokens: new Set(), mayStop: true };

/** Bits of the tokens that may be chosen in each row, on the device. */
export class AllowedTokens {
  /** One bit for each token, i32 [R, ⌈V/32⌉]. */
  readonly bits: IntTensor;
  #known: readonly Known[] = [];

  constructor(rows: number, vocabulary: number, device: Device) {
    this.bits = keep(zeros([rows, Math.ceil(vocabulary / 32)], { dtype: "i32", device }));
  }

  /** Uploads the bits, if they have changed. Any token may follow in the rows that are not given. */
  set(given: readonly AllowedRow[]): void {
    const [rows, words] = this.bits.shape as [number, number];
    const known = Array.from({ length: rows }, (_, row) => knownOf(given[row]));
    if (this.#known.length > 0 && known.every((row, i) => isSame(row, this.#known[i]!))) return;
    this.#known = known;
    const values = new Int32Array(rows * words).fill(-1);
    for (const [row, { constraint, stopTokens, mayStop }] of given.entries()) {
      const own = values.subarray(row * words, (row + 1) * words);
      if (constraint) writeAllowed(own, constraint, stopTokens, mayStop);
      else if (!mayStop) for (const token of stopTokens) own[token >> 5]! &= ~(1 << (token & 31));
    }
    this.bits.set(values);
  }
}

function knownOf(row: AllowedRow | undefined): Known {
  if (!row) return anyTokens;
  const { constraint, stopTokens, mayStop } = row;
  return { tokens: constraint?.allowed ?? null, accepts: constraint?.accepts ?? true, stopTokens, mayStop };
}

function isSame(a: Known, b: Known): boolean {
  return a.tokens === b.tokens && a.accepts === b.accepts && a.stopTokens === b.stopTokens && a.mayStop === b.mayStop;
}
