/** Finds a Python with packages, for tests that compare with libraries of Debian's. */
import { spawnSync } from "node:child_process";

/** Returns the command of a Python that has these modules, and null; or, as `missing`, why tests are skipped. */
export function pythonWith(modules: string, debian: string): { command: string; missing: string | null } {
  // The first Python on the PATH may be another one than Debian's, whose packages it then lacks.
  for (const command of ["python3", "/usr/bin/python3"])
    if (spawnSync(command, ["-c", `import ${modules}`]).status === 0) return { command, missing: null };
  return { command: "python3", missing: `need Python's ${modules} (apt-get install ${debian})` };
}

/** A Python that reads and computes what heed writes. */
export const numpy = pythonWith("safetensors, numpy", "python3-safetensors python3-numpy");
