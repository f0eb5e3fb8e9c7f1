/** Trained weights and published outputs, which lie beside a checkout and not in it. */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const candidates = ["../../shared", "../../../shared", "../../../../shared"].map((relative) =>
  fileURLToPath(new URL(relative, import.meta.url)),
);
const root = candidates.find((folder) => existsSync(path.join(folder, "models")));

/** Reason of tests that are skipped because such a folder does not exist. */
export const noShared = "need trained weights (a folder shared/models beside the checkout)";

/** Reason of tests that are skipped because reference results do not exist. */
export const noReference = "need reference results (a folder shared/reference beside the checkout)";

/** Returns the folder of a model, or null if it does not exist. */
export function sharedModel(name: string): string | null {
  return shared("models", name);
}

/** Returns a folder of reference results, such as "families", or null if it does not exist. */
export function sharedReference(name: string): string | null {
  return shared("reference", name);
}

function shared(part: string, name: string): string | null {
  const folder = root && path.join(root, part, name);
  return folder && existsSync(folder) ? folder : null;
}
