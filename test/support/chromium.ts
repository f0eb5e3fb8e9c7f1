/** A browser for tests of pages: the system's Chromium, since tests download none. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** The program, or undefined if there is none. HEED_CHROMIUM may name another one. */
const chromiumPath = [process.env.HEED_CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"].find(
  (file) => file !== undefined && existsSync(file),
);

/** Why pages cannot be tested; null if they can. */
export const noChromium = chromiumPath ? null : "need Chromium (apt-get install chromium, or HEED_CHROMIUM)";

/** Starts a browser, which the caller closes. */
export function launch(): Promise<Browser> {
  // Chromium's own sandbox does not work in containers. The pages are ours.
  return chromium.launch({ executablePath: chromiumPath!, args: ["--no-sandbox"] });
}
