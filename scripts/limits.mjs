// Writes docs/limits.md, the limits of requests and files, and the tables of docs/guides/server.md. The tests that keep the
// pages up to date make them, because they read the schemas and the constants in TypeScript.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const vitest = fileURLToPath(new URL("../node_modules/vitest/vitest.mjs", import.meta.url));
const { status } = spawnSync(
  process.execPath,
  [vitest, "run", "test/docs/limits.test.ts", "test/docs/server-tables.test.ts", "-t", "up to date"],
  {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
    env: { ...process.env, HEED_WRITE_LIMITS: "1" },
    stdio: "inherit",
  },
);
process.exitCode = status ?? 1;
