// Reading files that others wrote: whatever the file system refuses is an ERR_IO, whatever is not JSON an ERR_FORMAT,
// and both name the file.
import { readFile } from "node:fs/promises";
import { HeedError } from "./errors.js";

/** Runs `body`; what the file system refuses becomes an ERR_IO that names the file. */
export async function naming<T>(file: string, body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new HeedError("ERR_IO", `${file}: ${cause.message}`, { cause });
  }
}

/** The value in a JSON file. Throws ERR_IO or ERR_FORMAT with the file's name. */
export async function readJsonFile(file: string): Promise<unknown> {
  const text = await naming(file, () => readFile(file, "utf8"));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HeedError("ERR_FORMAT", `${file}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

/** What `read` makes of a file; null where there is none. */
export async function ifThere<T>(file: string, read: (file: string) => Promise<T>): Promise<T | null> {
  try {
    return await read(file);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code === "ENOENT") return null;
    throw error;
  }
}
