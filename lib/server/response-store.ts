// Responses in memory, for conversations that go on by the id of the last one. Nobody but the client whose response it is can
// ask for one. The oldest are dropped when there are too many, or they are too large.
import type { InputItem } from "./response-input.js";

/** A response with what it answers. */
export interface StoredResponse {
  readonly id: string;
  /** The response as the client has got it. */
  readonly response: object;
  /** All items of the conversation before the output, with ids. */
  readonly input: readonly InputItem[];
  /** Items of the output, as a further request has them in its input. */
  readonly output: readonly InputItem[];
}

/** Most bytes of all stored responses together. */
const mostBytes = 64 * 2 ** 20;

/** The latest responses of a server. */
export class ResponseStore {
  readonly #most: number;
  readonly #mostBytes: number;
  /** Responses by their clients and ids, the latest ones last. */
  readonly #all = new Map<string, { readonly stored: StoredResponse; readonly bytes: number }>();
  #bytes = 0;

  /** Keeps at most `most` responses of at most so many bytes together. */
  constructor(most: number, bytes = mostBytes) {
    this.#most = most;
    this.#mostBytes = bytes;
  }

  /** True if responses are kept. */
  get keeps(): boolean {
    return this.#most > 0;
  }

  /** Number of responses that are kept now. */
  get size(): number {
    return this.#all.size;
  }

  /** Keeps a response of a client, unless it is larger than all may be together. */
  add(owner: string | null, stored: StoredResponse): void {
    const bytes = bytesOf(stored.response) + stored.input.reduce((sum, item) => sum + bytesOf(item), 0);
    if (!this.keeps || bytes > this.#mostBytes) return;
    this.#all.set(keyOf(owner, stored.id), { stored, bytes });
    this.#bytes += bytes;
    for (const [key] of this.#all) {
      if (this.#all.size <= this.#most && this.#bytes <= this.#mostBytes) return;
      this.#drop(key);
    }
  }

  /** Returns a client's response; null if there is none of this id. */
  get(owner: string | null, id: string): StoredResponse | null {
    return this.#all.get(keyOf(owner, id))?.stored ?? null;
  }

  /** Returns the item of one of a client's responses; null if there is none of this id. */
  item(owner: string | null, id: string): InputItem | null {
    for (const [key, { stored }] of this.#all) {
      if (!key.startsWith(keyOf(owner, ""))) continue;
      const found = [...stored.output, ...stored.input].find((item) => (item as { id?: unknown }).id === id);
      if (found) return found;
    }
    return null;
  }

  /** Forgets a client's response; returns false if there is none of this id. */
  delete(owner: string | null, id: string): boolean {
    return this.#drop(keyOf(owner, id));
  }

  #drop(key: string): boolean {
    this.#bytes -= this.#all.get(key)?.bytes ?? 0;
    return this.#all.delete(key);
  }
}

/** Sizes of items, which the responses that go on from one another share. */
const sizes = new WeakMap<object, number>();

function bytesOf(value: object): number {
  const bytes = sizes.get(value) ?? 2 * JSON.stringify(value).length;
  sizes.set(value, bytes);
  return bytes;
}

function keyOf(owner: string | null, id: string): string {
  return `${owner ?? ""}\n${id}`;
}
