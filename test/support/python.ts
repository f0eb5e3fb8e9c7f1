/** Finds a Python with a package, for tests that compare with a library of Debian's. */
import { spawnSync } from "node:child_process";

/** Returns the command of a Python that has a package, or null with a warning if there is none. */
export function pythonWith(name: string, debian: string): string | null {
  // The first Python on the PATH may be another one than Debian's, whose packages it then lacks.
  for (const command of ["python3", "/usr/bin/python3"])
    if (spawnSync(command, ["-c", `import ${name}`]).status === 0) return command;
  console.warn(`skipped: python3 has no ${name} (Debian's ${debian})`);
  return null;
}
