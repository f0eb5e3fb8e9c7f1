// Reading files that others wrote: whatever the file system refuses is an ERR_IO, whatever is not JSON an ERR_FORMAT,
// and both name the file.
import { access, readFile, stat } from "node:fs/promises";
import { HeedError } from "./errors.js";
import { parseJson } from "./json.js";
import { inTurns } from "./turns.js";

/** Runs `body`; what the file system refuses becomes an ERR_IO that names the file. */
export async function naming<T>(file: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new HeedError("ERR_IO", `${file}: ${cause.message}`, { cause });
  }
}

/** Runs `body`; the errors of what does not know the file become ERR_FORMAT and name it. */
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

/** The largest file that is read whole, in bytes. It is half of the longest string that JavaScript allows. */
const mostBytes = 2 ** 28;

/** The bytes of a file that is not large, such as a tokenizer. Throws ERR_IO, or ERR_FORMAT for a large one, with its name. */
export async function readSmallFile(file: string): Promise<Buffer> {
  return naming(file, async () => {
    const { size } = await stat(file);
    if (size > mostBytes)
      throw new HeedError("ERR_FORMAT", `${file}: expected a file of at most ${mostBytes} bytes, got ${size}`);
    return readFile(file);
  });
}

/** Reads a small UTF-8 file into a string. Throws as `readSmallFile` does. */
export async function readTextFile(file: string): Promise<string> {
  return (await readSmallFile(file)).toString("utf8");
}

/**
 * The value in a JSON file, in which a large object that is the value of the key `asMap` is a Map. Throws ERR_IO or
 * ERR_FORMAT with the file's name.
 */
export async function readJsonFile(file: string, { asMap }: { asMap?: string } = {}): Promise<unknown> {
  const text = await readTextFile(file);
  try {
    return await inTurns(parseJson(text, asMap));
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${file}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

/** What `read` makes of a file; null where there is none. That another is missing, which this one names, is an error. */
export async function ifThere<T>(file: string, read: (file: string) => Promise<T>): Promise<T | null> {
  try {
    return await read(file);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code === "ENOENT" && cause.path === file) return null;
    throw error;
  }
}
