/**
 * npm run soak [-- --minutes n] [--seed n] [--server]: works as a server would for hours, under changing faults, and
 * checks that nothing is left over, lost or wrong (docs/testing.md). It prints a line for each period and closing
 * figures; the exit code is 1 if a check failed. With --server, the work is that of a server that is asked over HTTP.
 *
 * The work runs in a process of its own, with a small disk that can be filled and with small CUDA devices: the software
 * device, unless HEED_CUDA_DRIVER names another driver.
 */
import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { mounted, noMounts } from "../support/mounts.js";

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "20" },
    seed: { type: "string", default: String(randomInt(2 ** 31)) },
    server: { type: "boolean", default: false },
  },
});
const minutes = Number(flags.minutes);
const seed = Number(flags.seed);
if (!(minutes > 0)) throw new Error(`--minutes: expected a number above 0, got ${flags.minutes}`);
if (!Number.isSafeInteger(seed)) throw new Error(`--seed: expected an integer, got ${flags.seed}`);

const root = mkdtempSync(path.join(tmpdir(), "heed-soak-"));
const disk = path.join(root, "disk");
mkdirSync(disk);
const small = noMounts === null;
// The disk of a server has its log, too.
const size = flags.server ? "32m" : "4m";
const through = small ? mounted(`mount -t tmpfs -o size=${size} tmpfs "${disk}"`) : [];
const program = fileURLToPath(new URL(flags.server ? "http.js" : "soak.js", import.meta.url));
const [command, ...args] = [...through, process.execPath, program, String(minutes), String(seed), root, String(small)];
const { status, signal, error } = spawnSync(command, args, {
  stdio: "inherit",
  env: {
    HEED_CUDA_DRIVER: fileURLToPath(new URL("../../Release/libheed_cuda_simulator.so", import.meta.url)),
    HEED_SIMULATOR_DEVICES: "2",
    HEED_SIMULATOR_MEMORY: String(64 * 2 ** 20),
    // glibc keeps the memory of threads that have ended in arenas of their own: tens of MiB that come and go.
    MALLOC_ARENA_MAX: "2",
    HEED_SOAK_SMALL_DISK: String(small),
    ...process.env,
  },
});
rmSync(root, { recursive: true, force: true });
if (error) throw error;
if (signal !== null) console.error(`soak: ended by ${signal}; --seed ${seed} runs it again`);
process.exitCode = status ?? 1;
