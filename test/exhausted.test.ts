/** A host without threads or memory: heed must throw an error that can be caught, and never end the process. */
import { spawnSync } from "node:child_process";
import { pathToFileURL } from "node:url";
import { describe, expect } from "vitest";
import { expectChild } from "./support/child.js";
import { dist } from "./support/dist.js";
import { linuxOnly, testUnless } from "./support/skip.js";

const root = process.getuid?.() === 0;
const nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
const unread =
  spawnSync("setpriv", [...nobody, "test", "-r", dist("index.js")]).status !== 0 &&
  "need a checkout that the user nobody may read";

describe("no threads", () => {
  // The limit counts the threads of a user. The user is nobody, who has no other threads; only root may become nobody.
  testUnless(process.platform !== "linux" ? linuxOnly : root ? unread : "need to be root")(
    "importing rejects with ERR_NATIVE",
    () => {
      // Node.js itself ends the process if it finds no threads for its own pool. Reading a file starts the pool.
      const program = `
      import { readFile } from "node:fs/promises";
      await readFile("/proc/self/status");
      console.log("started");
      const outcome = await import(${JSON.stringify(pathToFileURL(dist("index.js")).href)}).then(
        async (heed) => "sum " + (await heed.add(heed.ones([2]), 1).data()).join(),
        (error) => error.code + " " + error.message);
      console.log(outcome);
      process.exit(0);
    `;
      const outcomes = new Set<string>();
      for (let threads = 8; threads <= 24; threads++) {
        const { stdout, status, signal } = spawnSync(
          "setpriv",
          [
            ...nobody,
            ...["prlimit", `--nproc=${threads}`],
            ...[process.execPath, "--input-type=module", "-e", program],
          ],
          { encoding: "utf8", timeout: 30_000 },
        );
        const [started, outcome] = stdout.trim().split("\n");
        if (started !== "started") continue;
        expect({ threads, status, signal, outcome }).toMatchObject({ status: 0, signal: null });
        outcomes.add(outcome!.split(" ")[0]!);
        if (outcome!.startsWith("ERR_NATIVE")) expect(outcome).toContain("the addon could not start");
        if (outcome === "sum 2,2") break;
      }
      expect([...outcomes].sort()).toEqual(["ERR_NATIVE", "sum"]);
    },
  );
});

describe("no memory on the host", () => {
  testUnless(process.platform !== "linux" && linuxOnly)(
    "a read rejects with ERR_OOM, and the next one works",
    async () => {
      const output = await expectChild(`
      import { spawnSync } from "node:child_process";
      import { readFileSync } from "node:fs";
      // The limit leaves room for the process as it is and for the tensor, but not for the copy that JavaScript gets.
      const used = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024;
      spawnSync("prlimit", ["--pid", process.pid, "--as=" + (used + 3 * 2 ** 29)]);
      const x = heed.empty([2 ** 30], { dtype: "u8" });
      console.log(await x.data().then(() => "read", (error) => error.code + " " + error.message));
      x.dispose();
      console.log((await heed.ones([2]).data()).join());
    `);
      expect(output).toBe("ERR_OOM read: out of memory for 1073741824 bytes on the host\n1,1");
    },
  );
});
