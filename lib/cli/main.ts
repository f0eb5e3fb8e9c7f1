#!/usr/bin/env node
import { report } from "./failure.js";
import { quitOnBrokenPipe } from "./output.js";
import { createProgram } from "./program.js";

quitOnBrokenPipe();
try {
  const args = process.argv.slice(2);
  await (await createProgram(args)).parseAsync(args, { from: "user" });
} catch (error) {
  process.exitCode = report(error);
}
