// Draws docs/guides/inspect-*.png, the pictures of a page of `heed inspect` in docs/guides/inside-a-transformer.md, with the
// system's Chromium:
//
//   npm run build:ts && node scripts/screenshot-inspect.mjs ../shared/models/stories260K
//
// The argument is the folder of any model that continues a text.
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const source = process.argv[2];
if (!source) throw new Error("expected the folder of a model as the argument");
const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), "heed-inspect-"));
const file = path.join(folder, "page.html");
const text = "Once upon a time, there was a little girl named Lily. She saw a big dog.";
spawnSync(process.execPath, [main, "inspect", "--model", source, "--out", file, text], { stdio: "inherit" });
const executablePath = process.env.HEED_CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

/** Opens the page, lets `use` choose what it shows, and photographs it. */
async function photograph(name, colorScheme, use) {
  const page = await browser.newPage({ viewport: { width: 1120, height: 700 }, colorScheme });
  await page.goto(pathToFileURL(file).href);
  await page.locator(".token").nth(13).click();
  await use(page);
  // Small pictures of heads are drawn when they are seen.
  await page.waitForTimeout(1000);
  const picture = fileURLToPath(new URL(`../docs/guides/inspect-${name}.png`, import.meta.url));
  await page.screenshot({ path: picture });
  console.log(`${picture}: ${Math.round(statSync(picture).size / 1024)} KiB`);
  await page.close();
}

try {
  await photograph("attention", "light", async (page) => {
    await page.getByRole("button", { name: "Add a head beside" }).click();
    await page.getByRole("button", { name: "Layer 1, head 3" }).click();
  });
  await photograph("attribution", "dark", (page) => page.getByRole("tab", { name: "Attribution" }).click());
} finally {
  await browser.close();
  rmSync(folder, { recursive: true });
}
