import { writeFile } from "node:fs/promises";
import { naming } from "../util/files.js";
import { readRun } from "../report/read-run.js";
import { trainingReport } from "../report/training-report.js";
import { print } from "./output.js";
import type { ReportFlags } from "./report-flags.js";

/** Runs `heed report`. */
export async function run(sources: readonly string[], { out }: ReportFlags): Promise<void> {
  const runs = await Promise.all(sources.map((source) => readRun(source)));
  await naming(out, () => writeFile(out, trainingReport(runs)));
  await print(`wrote ${out}\n`);
}
