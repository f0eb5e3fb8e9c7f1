import { checkObject } from "../util/check.js";
import { HeedError, oneOf } from "../util/errors.js";

/**
 * Checks that all options are among those with these names. Their values are checked where they are used.
 *
 * @throws ERR_ARGUMENT if `options` is no object, or another option is set.
 */
export function checkNames(op: string, name: string, options: unknown, names: readonly string[]): void {
  checkObject(op, name, options);
  const unknown = Object.keys(options as object).find((key) => !names.includes(key));
  if (unknown !== undefined)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected the options in ${name} to be ${oneOf(names)}, got ${JSON.stringify(unknown)}`,
    );
}
