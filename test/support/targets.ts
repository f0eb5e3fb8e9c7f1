/** The targets on which every operation is tested: each device, and each instruction set of the CPU. */
import { afterAll, beforeAll, describe } from "vitest";
import { native } from "../../lib/core/native.js";
import { cudas, noCuda } from "./cuda.js";

export interface Target {
  name: string;
  device: string;
  /** Makes this target the current one. */
  select: () => void;
}

/** Instruction sets of kernels that this machine can run. */
const isas = ["portable", "avx2", "avx512", "avx512vnni", "avx512bf16", "avx512amx"].filter((isa) =>
  native.supportsIsa(isa),
);
const best = isas.at(-1)!;

/** Without a CUDA device, the tests of one are registered all the same: runner.ts skips them. */
const devicesNamed = noCuda === null ? cudas : ["cuda:0"];

function targetsOn(some: string[]): Target[] {
  return [
    ...some.map((isa) => ({ name: `cpu ${isa}`, device: "cpu", select: () => native.selectIsa(isa) })),
    ...devicesNamed.map((device) => ({ name: device, device, select: () => undefined })),
  ];
}

/**
 * Targets for most operations. avx512vnni, avx512bf16 and avx512amx are avx512 with other products, so the best
 * available one stands for all.
 */
export const targets: readonly Target[] = targetsOn(isas.filter((isa) => !isa.startsWith("avx512") || isa === best));

/** The same targets and plain avx512, for operations that multiply bf16 or bytes. */
export const productTargets: readonly Target[] = targetsOn(isas.filter((isa) => isa !== "avx512vnni" || isa === best));

/** Each device, with the CPU's default instruction set, for tests that do not depend on the instruction set. */
export const devicesTested: readonly Target[] = targetsOn([native.isa()]);

/** Returns true if the device of a target can be used. Tests that loop over targets leave out the others. */
export const isHere = ({ device }: Target): boolean => device === "cpu" || noCuda === null;

/** The devices that can be used. */
export const devicesHere: readonly Target[] = devicesTested.filter(isHere);

/** The machine's own choice, which is restored after a test. */
export const bestIsa = native.isa();

/** Returns the device, or the CPU if it cannot be used: for what a suite makes before its tests, which are then skipped. */
export const orCpu = (device: string): string => (device === "cpu" || noCuda === null ? device : "cpu");

/** Runs a file's tests once on each device, which is then the default of everything they make ("auto"). */
export function onEachDevice(tests: (device: string) => void): void {
  describe.each(devicesTested)("on $name", ({ device }) => {
    const usual = process.env.HEED_DEVICE;
    beforeAll(() => void (process.env.HEED_DEVICE = device));
    afterAll(() => {
      if (usual === undefined) delete process.env.HEED_DEVICE;
      else process.env.HEED_DEVICE = usual;
    });
    tests(orCpu(device));
  });
}
