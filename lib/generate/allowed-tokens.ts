import { zeros } from "../core/creation.js";
import type { Device } from "../core/device.js";
import { keep } from "../core/scope.js";
import { type NextTokens, writeAllowed } from "../structured/constraint.js";
import type { TokenSet } from "../structured/token-set.js";
import type { IntTensor } from "../core/tensor.js";

/** Facts from which the bits of a row follow. */
interface Known {
  readonly tokens: TokenSet | null;
  readonly accepts: boolean;
  readonly stopTokens: ReadonlySet<number>;
  readonly mayStop: boolean;
}

const anyTokens: Known = { tokens: null, accepts: true, stopTokens: new Set(), mayStop: true };

/** Bits of the tokens that may be chosen in each row, on the device. */
export class AllowedTokens {
  /** One bit for each token, i32 [R, ⌈V/32⌉]. */
  readonly bits: IntTensor;
  /** The bits as they are to be uploaded. */
  readonly #values: Int32Array;
  readonly #known: Known[];
  #changed = true;

  constructor(rows: number, vocabulary: number, device: Device) {
    const words = Math.ceil(vocabulary / 32);
    this.bits = keep(zeros([rows, words], { dtype: "i32", device }));
    this.#values = new Int32Array(rows * words).fill(-1);
    this.#known = Array<Known>(rows).fill(anyTokens);
  }

  /**
   * Notes which tokens may follow in a row: those of `constraint` if it is not null, and the stop tokens only if `mayStop` is
   * true. A row that is as it was costs hardly anything.
   */
  note(row: number, constraint: NextTokens | null, stopTokens: ReadonlySet<number>, mayStop: boolean): void {
    const tokens = constraint?.allowed ?? null;
    const accepts = constraint?.accepts ?? true;
    const known = this.#known[row]!;
    const isSame = known.tokens === tokens && known.accepts === accepts;
    if (isSame && known.stopTokens === stopTokens && known.mayStop === mayStop) return;
    this.#known[row] = { tokens, accepts, stopTokens, mayStop };
    this.#changed = true;
    const own = this.#rowOf(row).fill(-1);
    if (constraint) writeAllowed(own, constraint, stopTokens, mayStop);
    else if (!mayStop) for (const token of stopTokens) own[token >> 5]! &= ~(1 << (token & 31));
  }

  /** Uploads the bits, if they have changed. In the rows from `count` on any token may follow. */
  upload(count: number): void {
    for (let row = count; row < this.#known.length; row++) {
      if (this.#known[row] === anyTokens) continue;
      this.#known[row] = anyTokens;
      this.#rowOf(row).fill(-1);
      this.#changed = true;
    }
    if (this.#changed) this.bits.set(this.#values);
    this.#changed = false;
  }

  #rowOf(row: number): Int32Array {
    const words = this.bits.shape[1]!;
    return this.#values.subarray(row * words, (row + 1) * words);
  }
}
