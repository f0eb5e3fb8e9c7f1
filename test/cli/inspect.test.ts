import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { chatModel } from "../server/support.js";
import { temporaryFolder } from "../support/folder.js";
import { heed } from "./support.js";

test("inspect writes a page, and complains in one line", async () => {
  const folder = temporaryFolder();
  using loaded = chatModel();
  await savePretrained(folder, loaded.model, { tokenizer: loaded.tokenizer });
  const file = path.join(folder, "page.html");
  const made = await heed(["inspect", "--model", folder, "--out", file, "--max-tokens", "5", "-"], {
    input: "the whale",
  });
  expect(made).toMatchObject({ code: 0, stderr: "" });
  expect(made.stdout).toMatch(/page\.html: \d+ KiB\n$/);
  const page = readFileSync(file, "utf8");
  expect(page).toMatch(/^<!doctype html>/);
  const [, tokens] = /"tokens":(\[[^\]]*\])/.exec(page)!;
  expect(JSON.parse(tokens!)).toEqual(["<|begin|>", "t", "he", " w", "h"]);

  const nowhere = await heed([
    "inspect",
    "--model",
    folder,
    "--no-ablations",
    "--out",
    path.join(folder, "no/page.html"),
    "a",
  ]);
  expect(nowhere.code).toBe(1);
  expect(nowhere.stderr).toMatch(/^error: cannot write .*: ENOENT/);
  const nothing = await heed(["inspect", "--model", folder, "--out", file, ""]);
  expect(nothing).toMatchObject({ code: 2, stderr: "error: text: expected a text that is not empty\n" });
});
