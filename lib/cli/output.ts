import { once } from "node:events";

/** What happens when nobody reads the output any more. */
let brokenPipe = (): void => process.exit();

/** `heed … | head` ends quietly. To be called once. */
export function quitOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      brokenPipe();
    });
}

/** Sets what happens then instead; returns what puts it back. */
export function onBrokenPipe(action: () => void): () => void {
  const before = brokenPipe;
  brokenPipe = action;
  return () => {
    brokenPipe = before;
  };
}

/** Writes to stdout, waiting where its reader is slower. On a terminal, what it would obey is shown instead. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(process.stdout.isTTY ? harmless(text) : text)) await once(process.stdout, "drain");
}

/** Writes a line to stderr; on a terminal, what it would obey is shown instead. */
export function complain(text: string): void {
  process.stderr.write(`${process.stderr.isTTY ? harmless(text) : text}\n`);
}

/**
 * A text as a terminal may show it, whoever wrote it: control characters, with which it could set colours and titles,
 * write elsewhere or even type, are named (\x1b). Line ends and tabs stay.
 */
function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
