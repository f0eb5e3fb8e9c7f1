// The lines of files and streams. A line is in memory as a whole, so its length has a limit, and what is read of a longer one
// is not copied again for each piece.
import { createReadStream } from "node:fs";
import { HeedError } from "./errors.js";
import { withoutMark } from "./files.js";

/** Longest line, in bytes, unless a reader says otherwise. */
export const longestLine = 2 ** 26;

const newline = 10;

/**
 * Yields the lines of a file, or of a stream, without their ends, and without the byte order mark that may begin them.
 * `name` is that of the stream in errors.
 *
 * @throws ERR_FORMAT if a line is longer than `most` bytes.
 */
export async function* linesOf(
  file: string | AsyncIterable<Buffer>,
  { most = longestLine, name = typeof file === "string" ? file : "input" }: { most?: number; name?: string } = {},
): AsyncGenerator<string, void, undefined> {
  let pieces: Buffer[] = [];
  let length = 0;
  let number = 1;
  const add = (piece: Buffer): void => {
    length += piece.length;
    if (length > most)
      throw new HeedError(
        "ERR_FORMAT",
        `${name}, line ${number}: expected a line of at most ${most} bytes, got a longer one`,
      );
    pieces.push(piece);
  };
  const line = (): string => {
    const text = Buffer.concat(pieces).toString("utf8");
    pieces = [];
    length = 0;
    return number++ === 1 ? withoutMark(text) : text;
  };
  const source = typeof file === "string" ? (createReadStream(file) as AsyncIterable<Buffer>) : file;
  for await (const piece of source) {
    let at = 0;
    for (let end = piece.indexOf(newline); end >= 0; end = piece.indexOf(newline, at)) {
      add(piece.subarray(at, end));
      yield line();
      at = end + 1;
    }
    add(piece.subarray(at));
  }
  if (length > 0) yield line();
}
