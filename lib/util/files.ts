// Reading of files that other programs wrote. If the file system refuses, the error is ERR_IO; if a file is not JSON,
// it is ERR_FORMAT. Both name the file.
import { access, readFile, stat } from "node:fs/promises";
import { HeedError } from "./errors.js";
import { parseJson } from "./json.js";
import { inTurns } from "./turns.js";

/** Runs `body` and returns its result. An error of the file system becomes an ERR_IO that names the file. */
export async function naming<T>(file: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new HeedError("ERR_IO", `${file}: ${cause.message}`, { cause });
  }
}

/** Runs `body` and returns its result. A HeedError that does not name the file becomes an ERR_FORMAT that does. */
export async function inFile<T>(file: string, body: () => T | Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!(cause instanceof HeedError) || cause.message.startsWith(file)) throw cause;
    throw new HeedError("ERR_FORMAT", `${file}: ${cause.message}`, { cause });
  }
}

export async function exists(name: string): Promise<boolean> {
  return access(name).then(
    () => true,
    () => false,
  );
}

/** Largest file that is read whole, in bytes. It is half of the longest string that JavaScript allows. */
export const mostBytes = 2 ** 28;

/**
 * Reads the bytes of a file that is not large, such as a tokenizer.
 *
 * @throws ERR_IO if the file cannot be read; ERR_FORMAT if it is too large. Both name the file.
 */
export async function readSmallFile(file: string): Promise<Buffer> {
  return naming(file, async () => {
    const { size } = await stat(file);
    if (size > mostBytes)
      throw new HeedError("ERR_FORMAT", `${file}: expected a file of at most ${mostBytes} bytes, got ${size}`);
    return readFile(file);
  });
}

/** Returns a text without the byte order mark with which some programs begin a file. */
export function withoutMark(text: string): string {
  return text.startsWith("\ufeff") ? text.slice(1) : text;
}

/**
 * Reads a small UTF-8 file into a string, without its byte order mark.
 *
 * @throws ERR_IO or ERR_FORMAT if `readSmallFile` throws it.
 */
export async function readTextFile(file: string): Promise<string> {
  return withoutMark((await readSmallFile(file)).toString("utf8"));
}

/**
 * Returns the value in a JSON file. If the value of the key `asMap` is a large object, it becomes a Map.
 *
 * @throws ERR_IO if the file cannot be read; ERR_FORMAT if it is too large or not JSON. Both name the file.
 */
export async function readJsonFile(file: string, { asMap }: { asMap?: string } = {}): Promise<unknown> {
  const text = await readTextFile(file);
  try {
    return await inTurns(parseJson(text, asMap));
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${file}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

/**
 * Returns what `read` makes of a file, or null if the file does not exist. If the file exists and names another one
 * that does not, the error of `read` is thrown.
 */
export async function ifThere<T>(file: string, read: (file: string) => Promise<T>): Promise<T | null> {
  try {
    return await read(file);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code === "ENOENT" && cause.path === file) return null;
    throw error;
  }
}
