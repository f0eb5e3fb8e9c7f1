import { HeedError } from "../util/errors.js";
import { runBatch } from "../server/batch.js";
import { type BatchLock, lockBatch } from "../server/batch-output.js";
import type { BatchFlags } from "./batch-flags.js";
import { UsageError } from "./failure.js";
import { engineOptions } from "./inference-options.js";
import { Interrupt, interrupted } from "./interrupt.js";
import { complain } from "./output.js";
import { loadServed, servedNames } from "./served-models.js";

/** Runs `heed batch`. */
export async function run(input: string, output: string, flags: BatchFlags): Promise<void> {
  const names = servedNames(flags);
  using interrupt = new Interrupt(() => complain("Stopping. Run the same command again to continue."));
  const { signal } = interrupt;
  try {
    await using lock = await locked(() => lockBatch(input, output));
    const models = await loadServed(names, flags);
    try {
      const { concurrency, rawControlTokens = false } = flags;
      const engine = engineOptions(flags);
      const options = { models, engine, concurrency, rawControlTokens, signal, lock };
      const { total, earlier, failed } = await runBatch(input, output, options);
      const before = earlier > 0 ? `, ${earlier} of them by an earlier run` : "";
      complain(`${total} requests answered${before}; ${failed} failed`);
    } finally {
      for (const model of Object.values(models)) model.dispose();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    process.exitCode = interrupted;
  }
}

/** Locks the output before models are loaded, which takes long. */
async function locked(lock: () => Promise<BatchLock>): Promise<BatchLock> {
  try {
    return await lock();
  } catch (cause) {
    if (cause instanceof HeedError && cause.code === "ERR_ARGUMENT") throw new UsageError(cause.message, { cause });
    throw cause;
  }
}
