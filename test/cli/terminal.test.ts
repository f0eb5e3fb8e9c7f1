// A terminal must not obey text that a model generates, because the model may come from a stranger. Files and programs
// get the text unchanged.
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryFolder } from "../support/folder.js";
import { describeUnless } from "../support/skip.js";
import { execute, heed, main } from "./support.js";

/** Sets a terminal's title and colours (in both forms) and rings its bell, between a tab and the end of a line. */
const text = "a\x1b]0;title\x07\t\x9b31mb\x7f\r\n".repeat(100);
/** All characters that a terminal obeys except line ends and tabs. */
// eslint-disable-next-line no-control-regex
const obeyed = /[\0-\x08\x0b-\x1f\x7f-\x9f]/;

const noTerminal =
  spawnSync("script", ["-qec", "true", "/dev/null"]).status === 0 ? null : "need `script` (apt-get install bsdutils)";

describeUnless(noTerminal)("on a terminal", () => {
  /**
   * Runs heed on a terminal and returns what was sent to it, except for the line ends that the terminal makes of \n.
   */
  async function onTerminal(cwd: string, args: string[]): Promise<string> {
    const command = [process.execPath, main, ...args].map((word) => `'${word}'`).join(" ");
    const { stdout } = await execute("script", ["-qec", command, "/dev/null"], { cwd, env: { SHELL: "/bin/sh" } });
    return stdout.replaceAll("\r\n", "\n");
  }

  test("control characters are replaced by their names, and nowhere else", async () => {
    const cwd = temporaryFolder();
    writeFileSync(path.join(cwd, "text"), text);
    const size = ["--layers", "1", "--heads", "1", "--width", "8", "--context", "16"];
    expect(await heed(["train", "--data", "text", "--out", "run", "--steps", "1", ...size], { cwd })).toMatchObject({
      code: 0,
    });
    const generate = ["generate", "--model", "run", "--max-tokens", "400", "--overflow", "slide", "--seed", "5", "a"];
    const { stdout } = await heed(generate, { cwd });
    expect(stdout).toContain("\x1b");
    expect(stdout).toContain("\x9b");
    const shown = await onTerminal(cwd, generate);
    expect(shown).not.toMatch(obeyed);
    for (const [name, character] of [
      ["\\x1b", "\x1b"],
      ["\\x07", "\x07"],
      ["\\x9b", "\x9b"],
      ["\\x7f", "\x7f"],
      ["\\x0d", "\r"],
    ] as const)
      expect(shown.split(name).length, name).toBe(stdout.split(character).length);
    expect(shown.split("\t").length).toBe(stdout.split("\t").length);
  });

  test("control characters in an error's message, too", async () => {
    const shown = await onTerminal(temporaryFolder(), ["generate", "--model", "no\x1b[31mne", "x"]);
    expect(shown).toMatch(/^error: no\\x1b\[31mne: expected a run of heed/);
    expect(shown).not.toMatch(obeyed);
  });

  test("a conversion shows how many tensors are written", async () => {
    const cwd = temporaryFolder();
    writeFileSync(path.join(cwd, "text"), "Call me Ishmael. ".repeat(40));
    const size = ["--layers", "1", "--heads", "1", "--width", "8", "--context", "16"];
    await heed(["train", "--data", "text", "--out", "run", "--steps", "1", ...size], { cwd });
    const shown = await onTerminal(cwd, ["convert", "--model", "run", "--out", "copy"]);
    expect(shown).toMatch(/█{20} (\d+) of \1 tensors\n/);
  });
});
