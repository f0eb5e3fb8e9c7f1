// What a walk over a vocabulary asks about states: their next states, if the rule of an unknown caller may end at them, and
// the plain characters that may follow. A walk asks hundreds of thousands of times, so that the answers are in a few arrays.

/** Bytes that the row of a state takes, with the room that is kept for further rows. */
export const rowBytes = 1200;

/**
 * Rows are in pieces of 64, since to copy all of them when there is no more room would take long: a place in the rows is
 * the number of its piece, shifted by `pieceBits`, and a place in it.
 */
export const pieceBits = 14;
export const withinPiece = 2 ** pieceBits - 1;

/** Number of the sets of plain characters. */
export const plainSets = 3;

/** Mark of a state of which nobody has asked for the plain characters. */
const unknown = 255;

/** Facts about states by their numbers. */
export class StateTable {
  /** Place of the row of each state; 0, the row of states that nobody has left. */
  rows = new Int32Array(1024);
  /** Numbers of the states after each byte, 256 a row; 0 if it is not known. */
  readonly next: Int32Array[] = [new Int32Array(2 ** pieceBits)];
  /** 1 for a state at which the rule of an unknown caller may end. */
  open = new Uint8Array(1024);
  /** Numbers of plain characters of the sets, a group for each state. */
  plain = new Uint8Array(1024 * plainSets).fill(unknown);
  /**
   * Number of bytes for which each state goes on as its twin does, and the numbers of the twins, which many states share;
   * 0 if there is none.
   */
  reach = new Uint8Array(1024);
  twins = new Int32Array(1024);
  #count = 0;
  #rowCount = 1;

  /** Adds a state that goes on as its twin does for `reach` bytes, and returns its number. */
  add(isOpen: boolean, reach: number): number {
    const id = this.#count++;
    if (id === this.rows.length) {
      const [rows, twins] = [new Int32Array(2 * id), new Int32Array(2 * id)];
      const [open, reaches] = [new Uint8Array(2 * id), new Uint8Array(2 * id)];
      const plain = new Uint8Array(2 * id * plainSets).fill(unknown);
      rows.set(this.rows);
      twins.set(this.twins);
      open.set(this.open);
      reaches.set(this.reach);
      plain.set(this.plain);
      [this.rows, this.twins, this.open, this.reach, this.plain] = [rows, twins, open, reaches, plain];
    }
    this.open[id] = Number(isOpen);
    this.reach[id] = Math.max(0, Math.min(reach, 254));
    return id;
  }

  /** Returns the number of the state after a byte; 0 if it is not known. */
  after(id: number, one: number): number {
    const row = this.rows[id]!;
    return this.next[row >> pieceBits]![(row & withinPiece) + one]!;
  }

  /** Notes the state after each of the bytes from `low` to `high`. Returns true if the state gets a row for it. */
  setAfter(id: number, low: number, high: number, next: number): boolean {
    let row = this.rows[id]!;
    const isFirst = row === 0;
    if (isFirst) {
      row = this.rows[id] = 256 * this.#rowCount++;
      if ((row & withinPiece) === 0) this.next.push(new Int32Array(2 ** pieceBits));
    }
    const start = row & withinPiece;
    this.next[row >> pieceBits]!.fill(next, start + low, start + high + 1);
    return isFirst;
  }

  /** Returns true if the plain characters that may follow a state are known. */
  knowsPlain(id: number): boolean {
    return this.plain[id * plainSets] !== unknown;
  }

  /** Notes the numbers of plain characters that may follow a state, whichever they are. */
  setPlain(id: number, counts: readonly number[]): void {
    this.plain.set(counts, id * plainSets);
  }
}
