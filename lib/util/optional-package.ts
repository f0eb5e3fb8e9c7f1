// Packages that only some functions need are optional peer dependencies.
import { HeedError } from "./errors.js";

/**
 * Resolves to the module that `load` imports.
 *
 * @throws ERR_IO if its package is not installed; the message says how to install it.
 */
export async function optionalPackage<T>(name: string, purpose: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw cause;
    throw new HeedError("ERR_IO", `${purpose}: expected the package ${name} to be installed; run npm install ${name}`, {
      cause,
    });
  }
}
