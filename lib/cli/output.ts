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

/** Writes to stdout, waiting where its reader is slower. */
export async function print(text: string): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, "drain");
}
