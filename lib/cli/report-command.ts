import { Command } from "commander";
import { text } from "./arguments.js";
import type { ReportFlags } from "./report-flags.js";

export function reportCommand(): Command {
  return new Command("report")
    .description(
      "Write a page in HTML that shows and compares training runs. It is one file, which loads nothing else.",
    )
    .argument("<runs...>", "folders of heed train --out, or logs in JSON lines")
    .option("--out <file>", "the page to write", text, "report.html")
    .addHelpText(
      "after",
      `
Examples:
  $ heed report runs/book
  $ heed report runs/small runs/large --out comparison.html`,
    )
    .action(async (runs: string[], flags: ReportFlags) => (await import("./report.js")).run(runs, flags));
}
