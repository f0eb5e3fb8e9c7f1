import { once } from "node:events";

/** Is called when nobody reads the output any more. */
let brokenPipe = (): void => process.exit();

/** Makes `heed … | head` end quietly. It must be called only once. */
export function quitOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr])
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      brokenPipe();
    });
}

/** Sets another action for a closed output pipe. Returns a function that restores the previous action. */
export function onBrokenPipe(action: () => void): () => void {
  const before = brokenPipe;
  brokenPipe = action;
  return () => {
    brokenPipe = before;
  };
}

/**
 * Writes to stdout and waits while its reader is slower. On a terminal, control characters are shown by name instead of
 * obeyed.
 */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(process.stdout.isTTY ? harmless(text) : text)) await once(process.stdout, "drain");
}

/** Writes a line to stderr. On a terminal, control characters are shown by name instead of obeyed. */
export function complain(text: string): void {
  process.stderr.write(`${process.stderr.isTTY ? harmless(text) : text}\n`);
}

/**
 * Returns a text that is safe to show on a terminal, whoever wrote it. Control characters could set colours and titles,
 * write elsewhere on the screen or even type, so they are replaced by their names (\x1b). Line ends and tabs stay.
 */
function harmless(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (character) => {
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
