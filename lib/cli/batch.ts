import { rmdir } from "node:fs/promises";
import { lockFolder } from "../formats/folder-lock.js";
import type { BatchFlags } from "./batch-flags.js";
import { UsageError } from "./failure.js";
import { Interrupt, interrupted } from "./interrupt.js";
import { complain } from "./output.js";
import { loadServed, servedNames, serverModule } from "./served-models.js";

/** Runs `heed batch`. */
export async function run(input: string, output: string, flags: BatchFlags): Promise<void> {
  if (input === output) throw new UsageError("expected another file for the output than for the input, got the same");
  const names = servedNames(flags);
  const { runBatch } = await serverModule();
  using interrupt = new Interrupt(() => complain("Stopping. Run the same command again to continue."));
  const { signal } = interrupt;
  const lock = `${output}.lock`;
  try {
    await using _ = await lockFolder(lock);
    const models = await loadServed(names, flags);
    try {
      const { concurrency } = flags;
      const { total, earlier, failed } = await runBatch(input, output, { models, concurrency, signal });
      const before = earlier > 0 ? `, ${earlier} of them by an earlier run` : "";
      complain(`${total} requests answered${before}; ${failed} failed`);
    } finally {
      for (const model of Object.values(models)) model.dispose();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    process.exitCode = interrupted;
  } finally {
    // A run that was killed has left the folder behind.
    await rmdir(lock).catch(() => undefined);
  }
}
