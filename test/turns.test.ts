import { expect, test } from "vitest";
import { inTurns, nextTurn, type Steps, turnWithRoom } from "../lib/util/turns.js";
import { expectNoPause } from "./support/pauses.js";
import { busy } from "./support/turns.js";

/** Works for 40 ms in steps of 1 ms. */
function* work(): Steps<string> {
  for (let i = 0; i < 40; i++) {
    busy(1);
    yield;
  }
  return "done";
}

test("long work shares the turns of the event loop", async () => {
  await expectNoPause(async () => {
    const all = await Promise.all(Array.from({ length: 12 }, () => inTurns(work())));
    expect(all).toEqual(Array(12).fill("done"));
  });
});

test("short work begins in turns with room, in its order, and does not wait forever", async () => {
  let order: number[] = [];
  const short = async (i: number): Promise<void> => {
    // Requests come as events of one turn.
    await nextTurn();
    await turnWithRoom();
    busy(5);
    order.push(i);
  };
  await expectNoPause(async () => {
    order = [];
    await Promise.all(Array.from({ length: 12 }, (_, i) => short(i)));
    expect(order).toEqual(Array.from({ length: 12 }, (_, i) => i));
  });
  // Nothing leaves room: each turn is used up by a step of 10 ms.
  const steps = function* (): Steps<void> {
    for (;;) {
      if (order.length > 12) return;
      busy(10);
      yield;
    }
  };
  const full = inTurns(steps());
  await short(12);
  await full;
});
