// The processes that a launcher has started for one command.
import { availableParallelism, cpus } from "node:os";
import { setTimeout } from "node:timers/promises";
import { setThreads } from "../device.js";
import { Collectives } from "../distributed/collectives.js";
import { launched } from "../distributed/launch.js";
import { report, UsageError } from "./failure.js";

/** Milliseconds for which others wait for the first process to report an error of all, and for its message to pass. */
const patience = 300;

/**
 * Runs `body` with the processes that a launcher has started, or with null if there is none. If it fails in one process,
 * all are ended.
 */
export async function together(
  { threads, device }: { threads?: number; device?: string },
  body: (processes: Collectives | null) => Promise<void>,
): Promise<void> {
  if (threads !== undefined) setThreads(threads);
  if (!launched()) return body(null);
  const processes = await Collectives.open();
  try {
    if (threads === undefined) shareCores();
    if (device !== undefined && device !== "cpu" && device !== "auto")
      throw new UsageError(`--device ${device}: several processes train on the CPU only`);
    await body(processes);
  } catch (error) {
    if (processes.size === 1) throw error;
    if (processes.rank > 0) await setTimeout(2 * patience);
    const code = report(error, `rank ${processes.rank}: `);
    // The launcher forwards the message, and drops what it has not forwarded when the run is ended.
    await setTimeout(patience);
    processes.abort(code);
  }
  processes.close();
}

/** Divides the cores of this machine between its processes, if the launcher has not bound each to cores of its own. */
function shareCores(): void {
  const local = Number(process.env.OMPI_COMM_WORLD_LOCAL_SIZE ?? process.env.MPI_LOCALNRANKS ?? 1);
  if (local > 1 && availableParallelism() === cpus().length)
    setThreads(Math.max(1, Math.floor(availableParallelism() / local)));
}
