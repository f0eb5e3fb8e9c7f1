// The texts and values in a block. Malformed lines are left out and reported.
import type { BadLine } from "./bad-lines.js";
import type { Block } from "./blocks.js";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Returns the text of UTF-8, or null if the bytes are something else. */
function decode(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** Yields the lines of a block with their numbers, ends of lines included. Lines that are not UTF-8 go to `bad`. */
function* linesOf(bytes: Uint8Array, { line, offset }: Block["from"], bad: BadLine[]): Generator<[number, string]> {
  for (let at = 0; at < bytes.length; line++) {
    const newline = bytes.indexOf(10, at);
    const end = newline < 0 ? bytes.length : newline + 1;
    const text = decode(bytes.subarray(at, end));
    if (text === null) bad.push({ line, message: "expected UTF-8, got other bytes" });
    // A byte order mark may begin a file.
    else yield [line, offset === 0 && at === 0 ? text.replace(/^\ufeff/, "") : text];
    at = end;
  }
}

/** Document of a text, or a part of one. */
export interface DocumentPart {
  text: string;
  /** True if the document begins here. */
  begins: boolean;
  /** True if the document ends here. */
  ends: boolean;
}

/** Yields the documents of a block of text. Lines that are not UTF-8 are left out of them and go to `bad`. */
export function* documentsOf(
  { bytes, from, to }: Block & { kind: "text" },
  separator: string | null,
  bad: BadLine[],
): Generator<DocumentPart> {
  const decoded = decode(bytes);
  const text =
    decoded === null
      ? [...linesOf(bytes, from, bad)].map(([, line]) => line).join("")
      : from.offset === 0
        ? decoded.replace(/^\ufeff/, "")
        : decoded;
  const parts = separator === null ? [text] : text.split(separator);
  // The last separator ends a document; nothing begins after it.
  if (parts.length > 1 && parts.at(-1) === "" && !to.open) parts.pop();
  for (const [i, part] of parts.entries()) {
    const [begins, ends] = [i > 0 || !from.open, i < parts.length - 1 || !to.open];
    if (!(begins && ends && part.trim() === "")) yield { text: part, begins, ends };
  }
}

/** Yields the values in a block of lines or rows, as functions that parse them, with the numbers of their lines. */
export function* valuesOf(
  block: Block & { kind: "lines" | "rows" },
  bad: BadLine[],
  parse: (json: string) => unknown = JSON.parse,
): Generator<[line: number, parse: () => unknown]> {
  if (block.kind === "rows") {
    for (const { line, cells } of block.rows) yield [line, () => cells];
    return;
  }
  for (const [line, text] of linesOf(block.bytes, block.from, bad))
    if (text.trim() !== "") yield [line, () => parse(text)];
}
