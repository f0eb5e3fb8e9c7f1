// API keys: several, compared in constant time. The server knows a key by its place in the list, so that no log, metric
// or error contains one.
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { describe, HeedError } from "../util/errors.js";
import { readTextFile } from "../util/files.js";

/** Keys of which a client must give one. */
export class ApiKeys {
  readonly #digests: readonly Buffer[];

  /** @throws ERR_ARGUMENT if there is no key, or one is empty. */
  constructor(keys: readonly string[]) {
    if (keys.length === 0 || keys.some((key) => typeof key !== "string" || key === ""))
      throw new HeedError("ERR_ARGUMENT", `server: expected API keys that are not empty, got ${describe(keys)}`);
    this.#digests = keys.map(digest);
  }

  /** Returns the place of one of a client's keys in the list, or -1. It takes as long for every key. */
  find(keys: readonly string[]): number {
    let found = -1;
    for (const given of keys.map(digest))
      for (const [i, own] of this.#digests.entries()) if (timingSafeEqual(own, given)) found = i;
    return found;
  }
}

/** Returns the keys that a client gives: as "Authorization: Bearer", or as Anthropic's and Azure's clients do. */
export function givenKeys(headers: IncomingHttpHeaders): string[] {
  const { authorization = "", "x-api-key": own, "api-key": azure } = headers;
  const bearer = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
  return [bearer, own, azure].filter((key) => typeof key === "string").filter((key) => key !== "");
}

/** Digests have one length, which `timingSafeEqual` needs, whatever the lengths of the keys. */
function digest(key: string): Buffer {
  return createHash("sha256").update(key).digest();
}

/**
 * Resolves to the keys in a file: one a line, without empty lines and those that begin with "#".
 *
 * @throws ERR_IO if the file cannot be read; ERR_FORMAT if it is too large or has no key.
 */
export async function readApiKeys(file: string): Promise<string[]> {
  const keys = (await readTextFile(file))
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  if (keys.length === 0) throw new HeedError("ERR_FORMAT", `${file}: expected API keys, one a line, got none`);
  return keys;
}
