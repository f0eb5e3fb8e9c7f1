import { add, noGrad, randn } from "heed";
import { bytesOf, type Case, expectClose, type Goals, type Setting, tolerances } from "../case.js";

/** Returns the case of many additions of few numbers, which shows what an operation costs besides its work. */
export function smallOps(setting: Setting, size: number, count: number, goals: Goals = {}): Case {
  return {
    ...setting,
    name: "small ops",
    shape: `add, ${size} numbers`,
    work: { operations: count, bytes: 3 * count * size * bytesOf[setting.dtype] },
    goals,
    peer: { name: "add", size, count },
    prepare() {
      const a = randn([size], { ...setting, seed: 1 });
      const b = randn([size], { ...setting, seed: 2 });
      return {
        run: () =>
          noGrad(() => {
            for (let i = 0; i < count; i++) add(a, b).dispose();
          }),
        verify: async () => {
          using sum = add(a, b);
          const [x, y, z] = await Promise.all([a.data(), b.data(), sum.data()]);
          expectClose("sum", z[size - 1]!, x[size - 1]! + y[size - 1]!, tolerances[setting.dtype]);
        },
        dispose: () => {
          a.dispose();
          b.dispose();
        },
      };
    },
  };
}
