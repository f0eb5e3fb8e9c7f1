import { Command } from "commander";

export function infoCommand(): Command {
  return new Command("info")
    .description("Show versions, devices, the instruction set and the number of threads.")
    .addHelpText(
      "after",
      `
Examples:
  $ heed info`,
    )
    .action(async () => (await import("./info.js")).info());
}
