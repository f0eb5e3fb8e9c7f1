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
  /** Numbers of plain characters of the two sets, two for each state. */
  plain = new Uint8Array(2048).fill(unknown);
  #count = 0;
  #rowCount = 1;

  /** Adds a state and returns its number. */
  add(isOpen: boolean): number {
    const id = this.#count++;
    if (id === this.rows.length) {
      const [rows, open, plain] = [
        new Int32Array(2 * id),
        new Uint8Array(2 * id),
        new Uint8Array(4 * id).fill(unknown),
      ];
      rows.set(this.rows);
      open.set(this.open);
      plain.set(this.plain);
      [this.rows, this.open, this.plain] = [rows, open, plain];
    }
    this.open[id] = Number(isOpen);
    return id;
  }

  /** Returns the number of the state after a byte; 0 if it is not known. */
  after(id: number, one: number): number {
    const row = this.rows[id]!;
    return this.next[row >> pieceBits]![(row & withinPiece) + one]!;
  }

  /** Notes the state after a byte. Returns true if the state gets a row for it. */
  setAfter(id: number, one: number, next: number): boolean {
    let row = this.rows[id]!;
    const isFirst = row === 0;
    if (isFirst) {
      row = this.rows[id] = 256 * this.#rowCount++;
      if ((row & withinPiece) === 0) this.next.push(new Int32Array(2 ** pieceBits));
    }
    this.next[row >> pieceBits]![(row & withinPiece) + one] = next;
    return isFirst;
  }

  /** Returns true if the plain characters that may follow a state are known. */
  knowsPlain(id: number): boolean {
    return this.plain[2 * id] !== unknown;
  }

  /** Notes the numbers of plain characters that may follow a state, whichever they are. */
  setPlain(id: number, [free, letters]: readonly number[]): void {
    this.plain[2 * id] = free!;
    this.plain[2 * id + 1] = letters!;
  }
}
