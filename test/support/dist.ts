import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Returns the time at which the newest file of a folder changed. */
function changed(folder: string, extension: string): number {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(extension));
  return Math.max(0, ...files.map((file) => statSync(path.join(folder, file)).mtimeMs));
}

/** Returns a file of dist/, for tests that run heed in another process. `npm test` builds dist/ first. */
export function dist(file: string): string {
  const built = statSync(path.join(root, "dist"), { throwIfNoEntry: false })
    ? changed(path.join(root, "dist"), ".js")
    : 0;
  if (built < changed(path.join(root, "lib"), ".ts"))
    throw new Error("dist/ is older than lib/: run `npm run build:ts`");
  return path.join(root, "dist", file);
}
