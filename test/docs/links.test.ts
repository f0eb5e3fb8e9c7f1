/** The links between pages, and from pages to files of the repository, must lead somewhere. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Returns the committed pages. */
function pages(): string[] {
  const within = (folder: string): string[] =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".md") && !name.startsWith("reference"))
      .map((name) => path.join(folder, name));
  return ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...within("docs"), ...within("examples")];
}

/** Returns the anchor of a heading on GitHub and on the site. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[`*_]/g, "")
    .replaceAll(/[^\p{L}\p{N}\s-]/gu, "")
    .trim()
    .replaceAll(/\s/g, "-");

function anchors(file: string): Set<string> {
  const text = readFileSync(file, "utf8").replaceAll(/```[\s\S]*?```/g, "");
  return new Set([...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading!)));
}

test("links lead somewhere", () => {
  const broken = pages().flatMap((page) => {
    const text = readFileSync(path.join(root, page), "utf8").replaceAll(/```[\s\S]*?```/g, "");
    return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target]) => target!)
      .filter((target) => {
        if (/^[a-z]+:/.test(target)) return false;
        const [file, anchor] = target.split("#") as [string, string | undefined];
        const full = file === "" ? path.join(root, page) : path.resolve(root, path.dirname(page), file);
        if (!existsSync(full)) return true;
        return anchor !== undefined && statSync(full).isFile() && !anchors(full).has(anchor);
      })
      .map((target) => `${page}: ${target}`);
  });
  expect(broken).toEqual([]);
});
