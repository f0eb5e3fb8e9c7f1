// Draws docs/guides/playground.png, the picture of the playground in docs/guides/server.md, with the system's Chromium:
//
//   npm run build:ts && node scripts/screenshot-playground.mjs ../shared/models/stories260K
//
// The argument is any model that continues a text.
import { statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { load } from "../dist/index.js";
import { createServer } from "../dist/server/index.js";

const file = fileURLToPath(new URL("../docs/guides/playground.png", import.meta.url));
const source = process.argv[2];
if (!source) throw new Error("expected the folder of a model as the argument");
const model = await load(source, { kind: "causal" });
const server = await createServer({ models: { [path.basename(source)]: model } });
const url = await server.listen({ port: 0 });
const executablePath = process.env.HEED_CHROMIUM ?? "/usr/bin/chromium";
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage({ viewport: { width: 1120, height: 640 }, colorScheme: "light" });
  await page.goto(url);
  await page.fill("[name=max_tokens]", "160");
  await page.fill("[name=temperature]", "0.8");
  await page.fill("[name=seed]", "4");
  await page.fill("#prompt", "Once upon a time, there was a little whale");
  await page.click("#prompt-form .send");
  await page.locator("article[aria-busy=false] footer", { hasText: "prompt of" }).waitFor();
  await page.locator("#output .token.rare").nth(2).hover();
  await page.screenshot({ path: file });
  console.log(`${file}: ${Math.round(statSync(file).size / 1024)} KiB`);
} finally {
  await browser.close();
  await server.close();
  model.dispose();
}
