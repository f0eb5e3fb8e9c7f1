/** What every operation is tested on: each device there is, and each instruction set of the CPU. */
import { afterAll, beforeAll, describe } from "vitest";
import { devices } from "../../lib/device.js";
import { native } from "../../lib/native.js";

export interface Target {
  name: string;
  device: string;
  /** Makes it the one in force. */
  select: () => void;
}

/** Of kernels; a machine runs some of them. */
const isas = ["portable", "avx2", "avx512", "avx512bf16"];

function targetsOf(device: string): Target[] {
  if (device !== "cpu") return [{ name: device, device, select: () => undefined }];
  return isas
    .filter((isa) => native.supportsIsa(isa))
    .map((isa) => ({ name: `cpu ${isa}`, device, select: () => native.selectIsa(isa) }));
}

/** Those of {@link targets}, and avx512 beside avx512bf16: for operations that multiply bf16. */
export const bf16Targets: readonly Target[] = devices()
  .filter((info) => info.available)
  .flatMap((info) => targetsOf(info.name));

/** avx512bf16 is avx512 with other products of bf16: where it is there, it stands for both. */
export const targets: readonly Target[] = bf16Targets.filter(
  ({ name }) => name !== "cpu avx512" || !native.supportsIsa("avx512bf16"),
);

/** The first target of each device: for what does not depend on the instruction set. */
export const devicesTested: readonly Target[] = targets.filter(
  ({ device, name }) => device !== "cpu" || name === `cpu ${native.isa()}`,
);

/** The machine's own choice, to be put back after a test. */
export const bestIsa = native.isa();

/** Runs a file's tests once on each device, which is the default of everything they make ("auto"). */
export function onEachDevice(tests: (device: string) => void): void {
  describe.each(devicesTested)("on $name", ({ device }) => {
    const usual = process.env.HEED_DEVICE;
    beforeAll(() => void (process.env.HEED_DEVICE = device));
    afterAll(() => {
      if (usual === undefined) delete process.env.HEED_DEVICE;
      else process.env.HEED_DEVICE = usual;
    });
    tests(device);
  });
}
