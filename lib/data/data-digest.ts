// Digests of data to train on, by which processes notice that they do not have the same. Of much data, samples are
// digested: the processes would otherwise read all of it before the first step.
import { createHash, type Hash } from "node:crypto";
import { pauseIfLong } from "../util/turns.js";
import type { SequenceSource } from "./sequence-source.js";
import type { TokenSource } from "./token-data.js";

/** Number of ids that are read at once, and of pieces that are read of much data. */
const [pieceLength, mostPieces] = [2 ** 16, 64];
/** Number of values, and of characters of texts, that are read of batches. */
const mostValues = 2 ** 20;

/**
 * Resolves to a text that differs for other data: tokens, sequences, or batches in an array or in a source. Data that can
 * only be iterated is told apart by its kind alone.
 */
export async function dataDigest(data: unknown): Promise<string> {
  if (data === null || data === undefined) return "none";
  const hash = createHash("sha256");
  const { length, sequences, order } = data as Partial<TokenSource & SequenceSource>;
  let count: string;
  if (isTokens(data)) {
    count = `${length} tokens`;
    await addTokens(hash, data);
  } else if (isSequences(data)) {
    count = `${sequences} sequences of ${data.contextLength}`;
    await addSequences(hash, data);
  } else if (Array.isArray(data)) {
    count = `${length} batches`;
    await addBatches(hash, data);
  } else count = length === undefined ? "batches" : `${length} batches`;
  hash.update(`${count} ${order ?? ""}`);
  return `${count}, ${hash.digest("hex").slice(0, 12)}`;
}

function isTokens(data: unknown): data is TokenSource {
  const { read, length } = data as Partial<TokenSource>;
  return typeof read === "function" && typeof length === "number";
}

function isSequences(data: unknown): data is SequenceSource {
  const { sequence, sequences } = data as Partial<SequenceSource>;
  return typeof sequence === "function" && typeof sequences === "number";
}

/** Yields the numbers below `count`, or some of them, evenly spread, the first and the last included. */
function* spreadOver(count: number, most: number): Generator<number> {
  if (count <= most) for (let i = 0; i < count; i++) yield i;
  else for (let i = 0; i < most; i++) yield Math.floor((i * (count - 1)) / (most - 1));
}

async function addTokens(hash: Hash, source: TokenSource): Promise<void> {
  const pieces = Math.ceil(source.length / pieceLength);
  const ids = new Int32Array(pieceLength);
  for (const piece of spreadOver(pieces, mostPieces)) {
    const offset = piece * pieceLength;
    const count = Math.min(pieceLength, source.length - offset);
    source.read(offset, count, ids);
    hash.update(new Uint8Array(ids.buffer, 0, 4 * count));
    await pauseIfLong();
  }
}

async function addSequences(hash: Hash, source: SequenceSource): Promise<void> {
  const most = Math.max(2, Math.floor((mostPieces * pieceLength) / Math.max(1, source.contextLength)));
  for (const index of spreadOver(source.sequences, Math.min(most, 4096))) {
    const { inputs, targets, documents } = source.sequence(index);
    for (const { buffer, byteOffset, byteLength } of [inputs, targets])
      hash.update(new Uint8Array(buffer, byteOffset, byteLength));
    hash.update(JSON.stringify(documents));
    await pauseIfLong();
  }
}

async function addBatches(hash: Hash, batches: readonly unknown[]): Promise<void> {
  const state = { hash, left: mostValues, seen: new Set<object>() };
  for (const i of spreadOver(batches.length, 4096)) {
    addValue(state, batches[i]);
    if (state.left <= 0) return;
    await pauseIfLong();
  }
}

/** Adds a value with everything in it. Functions and tensors count by their kind. */
function addValue(state: { hash: Hash; left: number; seen: Set<object> }, value: unknown): void {
  if (state.left-- <= 0) return;
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, Math.min(value.byteLength, state.left));
    state.left -= bytes.length;
    state.hash.update(`bytes ${value.byteLength}:`).update(bytes);
  } else if (typeof value === "string") {
    const text = value.slice(0, state.left);
    state.left -= text.length;
    state.hash.update(`text ${value.length}:${text}`);
  } else if (typeof value !== "object" || value === null)
    state.hash.update(`${typeof value} ${typeof value === "function" ? "" : String(value)};`);
  else if (!state.seen.has(value)) {
    state.seen.add(value);
    const isPlain = Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype;
    const entries = isPlain ? Object.entries(value) : [];
    state.hash.update(`${isPlain ? "entries" : "object"} ${entries.length};`);
    for (const [name, entry] of entries) {
      state.hash.update(`${name}=`);
      addValue(state, entry);
    }
  }
}
