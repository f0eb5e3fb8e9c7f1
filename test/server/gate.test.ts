import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { Gate } from "../../lib/server/gate.js";

test("a gate lets in as many as there are places, in the order in which they came", async () => {
  const gate = new Gate(5);
  const inside: string[] = [];
  const enter = (name: string, places?: number): Promise<() => void> =>
    gate.enter(places).then((leave) => {
      inside.push(name);
      return () => {
        inside.splice(inside.indexOf(name), 1);
        leave();
      };
    });
  const [three, one] = await Promise.all([enter("three", 3), enter("one")]);
  // One place is free, but nobody overtakes those that wait.
  const [two, late, all] = [enter("two", 2), enter("late"), enter("more than all", 99)];
  await setImmediate();
  expect(inside).toEqual(["three", "one"]);
  one();
  const leaving = [three, await two];
  await setImmediate();
  expect(inside).toEqual(["three", "two"]);
  leaving[0]!();
  (await late)();
  await setImmediate();
  expect(inside).toEqual(["two"]);
  leaving[1]!();
  (await all)();
  await enter("last", 5);
  expect(inside).toEqual(["last"]);
});
