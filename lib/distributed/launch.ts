import { type LaunchEnvironment, native } from "../core/native.js";

/**
 * Returns what a launcher such as `mpirun` or `srun` says about this process, or null if it was started without one. It
 * loads no library.
 *
 * @example
 * const { rank = 0, size = 1 } = launched() ?? {};
 */
export function launched(): LaunchEnvironment | null {
  const launch = native.launchEnvironment();
  return launch.size === 0 ? null : launch;
}
