// Measures one case with heed and all peers that have it. It is prepared and checked, then timed turn by turn.
import { setTimeout } from "node:timers/promises";
import { device, setThreads, threads } from "heed";
import type { Case } from "./case.js";
import { most, measurable, settled } from "./memory.js";
import type { Memory, Peer } from "./peers/peer.js";
import { type Measured, oneThread, type PeerMeasured } from "./row.js";
import { statistics } from "./statistics.js";
import { clockOf } from "./timing.js";

export interface ContestOptions {
  peers: readonly Peer[];
  /** Seconds that each contender has. */
  seconds: number;
  rounds: number;
  /** Is called beside each case that is compared with the machine's peak. */
  measurePeaks: () => void;
}

interface Contender {
  name: string;
  time: (seconds: number) => Promise<number[]>;
  samples: number[];
  memory: Memory | null;
}

export async function contest(one: Case, { peers, seconds, rounds, measurePeaks }: ContestOptions): Promise<Measured> {
  const rivals = peers.filter((peer) => peer.has(one));
  if (rivals.length > 0) await one.files?.();
  const where = device(one.device);
  const before = await settled(where);
  const prepared = await one.prepare();
  try {
    await prepared.verify();
    const clock = await clockOf(one, prepared);
    const ready = await settled(where);
    await clock.once();
    const peak = most();
    const memory = one.memory && measurable(where) ? { whole: peak - before, step: peak - ready } : null;
    const heed: Contender = { name: "heed", time: (s) => clock.times(s), samples: [], memory };
    const contenders = [heed];
    if (one.scaling) contenders.push({ name: oneThread, time: alone(heed.time), samples: [], memory: null });
    const errors = new Map<string, string>();
    for (const peer of rivals)
      try {
        const { result, memory } = await peer.prepare(one, threads());
        if (result) await prepared.verifyPeer?.(result);
        contenders.push({ name: peer.name, time: (s) => peer.time(s), samples: [], memory });
      } catch (error) {
        errors.set(peer.name, (error as Error).message);
      }
    if (one.bound) measurePeaks();
    for (let round = 0; round < rounds; round++)
      for (const { name, samples, time } of contenders) {
        if (errors.has(name)) continue;
        // ONNX Runtime's threads spin for tens of milliseconds after their work.
        await setTimeout(rivals.length > 0 ? 60 : 0);
        try {
          samples.push(...(await time(seconds / rounds)));
        } catch (error) {
          if (name === heed.name) throw error;
          errors.set(name, (error as Error).message);
        }
      }
    for (const peer of rivals) await peer.release().catch(() => undefined); // a peer that has ended cannot release
    return {
      heed: statistics(heed.samples),
      memory,
      peers: new Map<string, PeerMeasured>([
        ...contenders.slice(1).map(({ name, samples, memory }): [string, PeerMeasured] => {
          return [name, { ...statistics(samples), memory }];
        }),
        // The error replaces the samples that a failed peer had.
        ...[...errors].map(([name, error]): [string, PeerMeasured] => [name, { error }]),
      ]),
    };
  } finally {
    prepared.dispose();
  }
}

/** Returns a function that takes the times on one thread. */
function alone(time: Contender["time"]): Contender["time"] {
  return async (seconds) => {
    const all = threads();
    setThreads(1);
    try {
      return await time(seconds);
    } finally {
      setThreads(all);
    }
  };
}
