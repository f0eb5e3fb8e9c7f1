// GET /: the playground, a page to try the models (web/). It is one file with its script and its style inside of it, which
// the build puts into dist/. The browser runs nothing but these, and lets the page ask nobody but this server.
import type { FastifyInstance } from "fastify";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { open } from "./access.js";

/** Serves the playground. If it has not been built, a line of the log says so. */
export function servePlayground(app: FastifyInstance): void {
  const page = readPage();
  if (page === null) {
    app.log.warn("The playground has not been built: run `npm run build:web`.");
    return;
  }
  const etag = `"${sha256(page)}"`;
  const headers = {
    etag,
    // The browser asks each time if the page is still the same.
    "cache-control": "no-cache",
    "content-security-policy": policyOf(page),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
  };
  app.get("/", { schema: { hide: true }, config: open }, (request, reply) => {
    reply.headers(headers);
    if (request.headers["if-none-match"] === etag) return reply.status(304).send();
    return reply.type("text/html; charset=utf-8").send(page);
  });
}

/** Returns the page, from the folder that contains lib/ and dist/; null if it has not been built. */
function readPage(): string | null {
  try {
    return readFileSync(new URL("../../dist/server/web/index.html", import.meta.url), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

/** Returns the value of Content-Security-Policy that allows what the page contains, and requests to its own server. */
function policyOf(page: string): string {
  const hashOf = (pattern: RegExp): string => `'sha256-${sha256(pattern.exec(page)![1]!)}'`;
  return [
    "default-src 'none'",
    `script-src ${hashOf(/<script type="module">([\s\S]*?)<\/script>/)}`,
    `style-src ${hashOf(/<style>([\s\S]*?)<\/style>/)}`,
    "img-src data:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    // No text can become HTML, also by a mistake in the page.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("base64");
}
