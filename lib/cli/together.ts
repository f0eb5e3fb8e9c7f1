// The processes that a launcher has started for one command.
import { availableParallelism, cpus } from "node:os";
import { setTimeout } from "node:timers/promises";
import { device, devices, setThreads } from "../core/device.js";
import { Collectives } from "../distributed/collectives.js";
import { launched } from "../distributed/launch.js";
import { report } from "./failure.js";

/** Milliseconds for which others wait for the first process to report an error of all, and for its message to pass. */
const patience = 300;

/**
 * Runs `body` with the processes that a launcher has started, or with null if there is none. If it fails in one process,
 * all are ended.
 */
export async function together(
  threads: number | undefined,
  body: (processes: Collectives | null) => Promise<void>,
): Promise<void> {
  if (threads !== undefined) setThreads(threads);
  if (!launched()) return body(null);
  const processes = await Collectives.open();
  try {
    if (threads === undefined) shareCores();
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

/**
 * Returns the name of the device that this process trains on. With several processes, "cuda" and "auto" stand for a card of
 * its own among those of the machine, and the default is the CPU.
 */
export function deviceOf(processes: Collectives | null, name: string | undefined): string | undefined {
  if (!processes) return name;
  const { HEED_DEVICE: named = "" } = process.env;
  const asked = name === "auto" && named !== "" ? named : (name ?? "cpu");
  const chosen = asked === "auto" ? device("auto").kind : asked;
  if (chosen !== "cuda") return chosen;
  // A launcher may have shown each process its own card only.
  const cards = devices().filter(({ name }) => name.startsWith("cuda:")).length;
  return cards === 0 ? chosen : `cuda:${processes.localRank % cards}`;
}

/** Divides the cores of this machine between its processes, if the launcher has not bound each to cores of its own. */
function shareCores(): void {
  const local = Number(process.env.OMPI_COMM_WORLD_LOCAL_SIZE ?? process.env.MPI_LOCALNRANKS ?? 1);
  if (local > 1 && availableParallelism() === cpus().length)
    setThreads(Math.max(1, Math.floor(availableParallelism() / local)));
}
