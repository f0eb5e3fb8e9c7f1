import type { Command } from "commander";
import { writeFile } from "node:fs/promises";
import { readRun } from "../../report/read-run.js";
import { trainingReport } from "../../report/training-report.js";
import { naming } from "../../util/files.js";
import { text } from "../arguments.js";
import { print } from "../output.js";

/** The flags of `heed report`. */
interface ReportFlags {
  out: string;
}

/** Adds the arguments and the options of `heed report`. */
export function define(command: Command): Command {
  return command
    .argument("<runs...>", "folders of heed train --out, or logs in JSON lines")
    .option("--out <file>", "the page to write", text, "report.html")
    .addHelpText(
      "after",
      `
Examples:
  $ heed report runs/book
  $ heed report runs/small runs/large --out comparison.html`,
    )
    .action(run);
}

/** Runs `heed report`. */
async function run(sources: readonly string[], { out }: ReportFlags): Promise<void> {
  const runs = await Promise.all(sources.map((source) => readRun(source)));
  await naming(out, () => writeFile(out, trainingReport(runs)));
  await print(`wrote ${out}\n`);
}
