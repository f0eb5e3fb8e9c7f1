// Models are saved over others in a folder that is a mount point or a link to another disk, on a disk that is too
// small, or on one that cannot be written. In any case one complete model is there afterwards: the old one if the new
// one could not be saved.
import { mkdirSync, readdirSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { expectChild } from "../support/child.js";
import { temporaryFolder } from "../support/folder.js";
import { mounted, noMounts } from "../support/mounts.js";
import { describeUnless } from "../support/skip.js";

/**
 * `make(layers)` makes a model, `save` saves it, and `layers()` returns the number of layers of the model in the
 * folder.
 */
const program = (folder: string, body: string): string => `
  import { readdirSync, writeFileSync } from "node:fs";
  const folder = ${JSON.stringify(folder)};
  const make = (layers) => new heed.GPT({ vocabularySize: 64, contextLength: 16, layers, heads: 2, width: 64 }, { device: "cpu" });
  const save = (layers, options = { overwrite: true }) =>
    heed.savePretrained(folder, make(layers), options).then(() => "saved", ({ code, message }) => code + " " + message);
  const layers = async () => (await heed.loadPretrained(folder, { device: "cpu" })).model.config.layers;
  const say = (...words) => console.log(words.join(" "));
  ${body}
  for (const name of readdirSync(folder).sort()) say(name);
`;

describeUnless(noMounts)("a model saved over another one", () => {
  const files = ["config.json", "model.safetensors"];
  /** Makes a folder and mounts a disk of some MB beside it; returns the lines that the process prints. */
  async function run(script: string, body: string, size = "8m"): Promise<{ lines: string[]; root: string }> {
    const root = temporaryFolder();
    for (const name of ["disk", "folder"]) mkdirSync(path.join(root, name));
    const through = mounted(`cd "${root}"; mount -t tmpfs -o size=${size} tmpfs disk\n${script}`);
    const output = await expectChild(program(path.join(root, "model"), body), 0, {}, through);
    return { lines: output.split("\n"), root };
  }
  const twice = `
    say(await save(1, {}), await layers());
    writeFileSync(folder + "/README.md", "mine");
    say(await save(2), await layers());`;

  test.each([
    ["a mount point", "mkdir model; mount --bind disk model"],
    ["a mount point on the same disk", "mkdir model; mount --bind folder model"],
    ["a link to another disk", "mkdir disk/real; ln -s disk/real model"],
  ])("where the folder is %s", async (_, script) => {
    const { lines, root } = await run(script, twice);
    expect(lines).toEqual(["saved 1", "saved 2", "README.md", ...files]);
    expect(readdirSync(root).filter((name) => name.includes(".tmp-"))).toEqual([]);
  });

  test("if it does not fit beside the old one", async () => {
    const { lines } = await run(
      "mkdir model; mount --bind disk model",
      `say(await save(1), await layers()); say(await save(4)); say(await layers());`,
      "600k",
    );
    expect(lines[0]).toBe("saved 1");
    expect(lines[1]).toMatch(
      /^ERR_IO .*model: .*expected 8\d\d,\d{3} bytes of free space on its disk, got \d{3},\d{3}$/,
    );
    expect(lines.slice(2)).toEqual(["1", ...files]);
  });

  test("if another program takes the room meanwhile", async () => {
    const { lines } = await run(
      "mkdir model; mount --bind disk model",
      `say(await save(1), await layers());
       const onProgress = ({ written }) => {
         if (written > 1) return;
         try {
           for (let i = 0; ; i++) writeFileSync(folder + "/other-" + i, new Uint8Array(4096));
         } catch {}
       };
       say((await save(2, { overwrite: true, onProgress })).includes("ERR_IO") && "refused");
       say(await layers());
       const { rmSync } = await import("node:fs");
       for (const name of readdirSync(folder)) if (name.startsWith("other-")) rmSync(folder + "/" + name);
       say(await save(2), await layers());`,
      "1500k",
    );
    expect(lines).toEqual(["saved 1", "refused", "1", "saved 2", ...files]);
  });

  test("if the folder cannot be written", async () => {
    const { lines } = await run(
      "mkdir model",
      `say(await save(1), await layers());
       const { execFileSync } = await import("node:child_process");
       execFileSync("sh", ["-ec", "mount --bind model model; mount -o remount,ro,bind model"]);
       say(await save(2));
       say(await layers());`,
    );
    expect(lines[0]).toBe("saved 1");
    expect(lines[1]).toMatch(/^ERR_IO .*model: EROFS/);
    expect(lines.slice(2)).toEqual(["1", ...files]);
  });

  test("as a file, if there is not enough room, or it is a mount point", async () => {
    const { lines } = await run(
      "mkdir model; mount --bind disk model",
      `const file = folder + "/a.gguf";
       const write = (layers, to = file) =>
         heed.saveGguf(to, make(layers)).then(() => "saved", ({ code, message }) => code + " " + message);
       const written = async (from = file) => (await heed.loadGguf(from, { device: "cpu" })).model.config.layers;
       say(await write(1), await written());
       say(await write(4));
       say(await written());
       const { execFileSync } = await import("node:child_process");
       execFileSync("sh", ["-ec", "touch other.gguf; mount --bind model/a.gguf other.gguf"]);
       say(await write(1, "other.gguf"));
       say(await written("other.gguf"));`,
      "600k",
    );
    expect(lines[0]).toBe("saved 1");
    expect(lines[1]).toMatch(
      /^ERR_IO .*a\.gguf: expected \d{3},\d{3} bytes of free space on its disk, got \d{3},\d{3}$/,
    );
    expect(lines[2]).toBe("1");
    expect(lines[3]).toMatch(/^ERR_IO other\.gguf: EBUSY/);
    expect(lines.slice(4)).toEqual(["1", "a.gguf"]);
  });

  test("if one of its files is a mount point", async () => {
    const { lines } = await run(
      "mkdir model",
      `say(await save(1), await layers());
       const { execFileSync } = await import("node:child_process");
       execFileSync("sh", ["-ec", "cp model/model.safetensors disk; mount --bind disk/model.safetensors model/model.safetensors"]);
       say(await save(2));
       say(await layers());`,
    );
    expect(lines[0]).toBe("saved 1");
    expect(lines[1]).toMatch(/^ERR_IO .*model: EBUSY/);
    expect(lines.slice(2)).toEqual(["1", ...files]);
  });
});
