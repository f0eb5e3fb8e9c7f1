// Tables of numbers for a page: codes of 8 bits, compressed and in base64. A page for 512 tokens and 144 heads has 38
// million weights, most of which are nearly 0; compressed they take a few megabytes.
import { deflateRawSync } from "node:zlib";
import type { Grid } from "./data.js";

/** Collects the tables of a page. */
export class Blobs {
  /** Compressed codes in base64, by name. */
  readonly contents = new Map<string, string>();

  /** Adds a table of values from 0 to `scale` and returns its description. */
  addRoots(values: Float32Array, columns: number, scale: number): Grid {
    const codes = Uint8Array.from(values, (value) =>
      Math.round(255 * Math.sqrt(Math.min(1, Math.max(0, value / scale)))),
    );
    return this.#add(codes, columns, scale, "root");
  }

  /** Adds a table of values of both signs and returns its description. A value that is not finite becomes 0. */
  addSigned(values: Float32Array, columns: number): Grid {
    const scale = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    const factor = scale > 0 ? 127 / scale : 0;
    const codes = Uint8Array.from(values, (value) => 128 + Math.round(Number.isFinite(value) ? value * factor : 0));
    return this.#add(codes, columns, scale, "signed");
  }

  #add(codes: Uint8Array, columns: number, scale: number, form: Grid["form"]): Grid {
    const blob = String(this.contents.size);
    this.contents.set(blob, deflateRawSync(codes).toString("base64"));
    return { blob, rows: codes.length / columns, columns, scale, form };
  }
}
