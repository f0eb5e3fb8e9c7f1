#!/usr/bin/env node
import { report } from "./failure.js";
import { quitOnBrokenPipe } from "./output.js";
import { createProgram } from "./program.js";

quitOnBrokenPipe();
try {
  await createProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
