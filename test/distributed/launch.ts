/** Starts programs in several processes with mpirun, of both MPI libraries that Debian has. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { dist } from "../support/dist.js";
import { patience } from "../support/child.js";

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

/** Environment of the launchers; Open MPI does not start as root otherwise, and looks for networks of clusters. */
const environment = {
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_btl: "self,sm",
  OMPI_MCA_pml: "ob1",
  HEED_DEVICE: "cpu",
  HEED_INDEX: pathToFileURL(dist("index.js")).href,
};

/** What a run of several processes has written, and how it ended. */
export interface Ended {
  code: number | null;
  output: string;
  errors: string;
  seconds: number;
}

/** A run of several processes that goes on. */
export interface Running {
  /** Process of the launcher. */
  pid: number;
  /** Resolves to the first match of a line that the processes write. */
  line(pattern: RegExp): Promise<RegExpExecArray>;
  ended: Promise<Ended>;
}

/** Starts `size` processes of Node.js. */
export function start(
  { command }: Launcher,
  size: number,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Running {
  const [file, ...flags] = command;
  const started = performance.now();
  const child = spawn(file!, [...flags, "-np", String(size), process.execPath, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...environment, ...env },
    timeout: 100_000 * patience,
    killSignal: "SIGKILL",
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
    child.on("close", (code) => resolve({ code, output, errors, seconds: (performance.now() - started) / 1000 }));
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

/** Path of a program in this folder. */
export const program = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
