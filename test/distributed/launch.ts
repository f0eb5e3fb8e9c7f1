/** Starts programs in several processes with mpirun, of both MPI libraries that Debian has. */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { onTestFinished } from "vitest";
import { patience } from "../support/child.js";
import { besideSimulator } from "../support/cuda.js";
import { dist } from "../support/dist.js";
import { describeUnless } from "../support/skip.js";

/** A launcher. */
export interface Launcher {
  name: string;
  /** Command line, before the number of processes. */
  command: readonly string[];
}

const all: readonly Launcher[] = [
  // More processes than cores, and a processor that other tests use too.
  { name: "Open MPI", command: ["mpirun.openmpi", "--bind-to", "none", "--map-by", ":OVERSUBSCRIBE"] },
  { name: "MPICH", command: ["mpirun.mpich"] },
];

/** Launchers that are installed. */
export const launchers = all.filter(({ command }) =>
  (process.env.PATH ?? "").split(":").some((folder) => existsSync(path.join(folder, command[0]!))),
);

/** Why no MPI library can be tested; null if one can. */
export const noMpi = launchers.length > 0 ? null : "need an MPI library (apt-get install openmpi-bin mpich)";

/** Reason of tests for whose run under each library CI has no time. */
export const oneLibrary = "run with the other MPI library (at night with both)";

/** Registers tests of each launcher. They are skipped if it is not installed, or for the reason. */
export function onEachLauncher(unless: string | null, tests: (launcher: Launcher) => void): void {
  for (const launcher of all) {
    const missing = launchers.includes(launcher) ? null : `need ${launcher.name} (apt-get install openmpi-bin mpich)`;
    describeUnless(unless ?? missing)(launcher.name, () => tests(launcher));
  }
}

/** Environment of the launchers; Open MPI does not start as root otherwise, and looks for networks of clusters. */
const environment = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_btl: "self,sm",
  OMPI_MCA_pml: "ob1",
  HEED_DEVICE: "cpu",
  HEED_INDEX: pathToFileURL(dist("index.js")).href,
};

/** Environment of processes that compute on a CUDA device, the software one, and sum over the software NCCL. */
export const cards = {
  HEED_TEST_DEVICE: "cuda:0",
  HEED_NCCL_LIBRARY: besideSimulator("libheed_nccl_simulator.so"),
  HEED_SIMULATOR_THREADS: "1",
};

/** Output of a run of several processes, and how the run ended. */
export interface Ended {
  code: number | null;
  output: string;
  errors: string;
}

/** A run of several processes that goes on. */
export interface Running {
  /** Process of the launcher. */
  pid: number;
  /** Resolves to the first match of a line that the processes write. */
  line(pattern: RegExp): Promise<RegExpExecArray>;
  ended: Promise<Ended>;
}

/** Seconds after which the processes of a run are killed. */
const longest = 100 * patience;

/** Starts `size` processes of Node.js for the test that is running. What is left of them at its end is killed. */
export function start(
  { command }: Launcher,
  size: number,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Running {
  const [file, ...flags] = command;
  const child = spawn(file!, [...flags, "-np", String(size), process.execPath, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment, ...env },
  });
  const kill = (): void => {
    if (child.exitCode === null && child.signalCode === null) killAll(child.pid!);
  };
  const limit = setTimeout(kill, 1000 * longest);
  onTestFinished(() => {
    clearTimeout(limit);
    kill();
  });
  let [output, errors] = ["", ""];
  const waiting = new Set<() => void>();
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString();
    for (const look of waiting) look();
  });
  child.stderr.on("data", (data: Buffer) => (errors += data.toString()));
  const ended = new Promise<Ended>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output, errors }));
  });
  const line = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        const found = pattern.exec(output);
        if (!found) return;
        waiting.delete(look);
        resolve(found);
      };
      waiting.add(look);
      look();
      void ended.then(() => reject(new Error(`expected ${String(pattern)}, got ${output}\n${errors}`)));
    });
  return { pid: child.pid!, line, ended };
}

/**
 * Kills a launcher and all that it has started. It gives its processes groups of their own, so that they would outlive a
 * group that is killed.
 */
function killAll(launcher: number): void {
  const children = new Map<number, number[]>();
  for (const pid of readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    const parent = parentOf(pid);
    if (parent !== null) children.set(parent, [...(children.get(parent) ?? []), pid]);
  }
  const end = (pid: number): void => {
    for (const child of children.get(pid) ?? []) end(child);
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has ended meanwhile.
    }
  };
  end(launcher);
}

function parentOf(pid: number): number | null {
  try {
    return Number(/\nPPid:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
  } catch {
    return null; // It has ended meanwhile.
  }
}

/** Path of a program in this folder. */
export const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
