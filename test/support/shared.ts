/** Trained weights and published outputs, which lie beside a checkout and not in it. */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const candidates = ["../../shared", "../../../shared", "../../../../shared"].map((relative) =>
  fileURLToPath(new URL(relative, import.meta.url)),
);
const root = candidates.find((folder) => existsSync(path.join(folder, "models")));

/** Returns the folder of a model, or null with a warning if it does not exist. */
export function sharedModel(name: string): string | null {
  const folder = root && path.join(root, "models", name);
  if (folder && existsSync(folder)) return folder;
  console.warn(`skipped: no ${name} in a folder shared/models beside the checkout`);
  return null;
}
