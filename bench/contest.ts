// Measures one case with heed and all peers that have it. It is prepared and checked, then timed turn by turn.
import { device, setThreads, threads } from "heed";
import type { Case } from "./case.js";
import { most, measurable, settled } from "./memory.js";
import type { Memory, Peer } from "./peers/peer.js";
import { type Measured, oneThread, type PeerMeasured } from "./row.js";
import { clockOf } from "./timing.js";
import { type Contender, takeTurns, type TurnOptions } from "./turns.js";

export interface ContestOptions extends Omit<TurnOptions, "pause"> {
  peers: readonly Peer[];
  /** Is called beside each case that is compared with the machine's peak. */
  measurePeaks: () => void;
}

export async function contest(one: Case, options: ContestOptions): Promise<Measured> {
  const { peers, measurePeaks } = options;
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
    const own = one.memory && measurable(where) ? { whole: peak - before, step: peak - ready } : null;
    const heed: Contender = { name: "heed", time: (s, least) => clock.times(s, least) };
    const contenders = [heed];
    if (one.scaling) contenders.push({ name: oneThread, time: alone(heed.time) });
    const memory = new Map<string, Memory | null>();
    const errors = new Map<string, Error>();
    for (const peer of rivals)
      try {
        const answer = await peer.prepare(one, threads());
        if (answer.result) await prepared.verifyPeer?.(answer.result);
        memory.set(peer.name, answer.memory);
        contenders.push({ name: peer.name, time: (s, least) => peer.time(s, least) });
      } catch (error) {
        errors.set(peer.name, error as Error);
      }
    if (one.bound) measurePeaks();
    // ONNX Runtime's threads spin for tens of milliseconds after their work.
    const times = await takeTurns(contenders, { ...options, pause: rivals.length > 0 ? 60 : 0 });
    for (const peer of rivals) await peer.release().catch(() => undefined); // a peer that has ended cannot release
    const ours = times.get(heed.name)!;
    if (ours instanceof Error) throw ours;
    times.delete(heed.name);
    return {
      ...{ heed: ours, memory: own },
      peers: new Map(
        [...times, ...errors].map(([name, result]): [string, PeerMeasured] => [
          name,
          result instanceof Error ? { error: result.message } : { ...result, memory: memory.get(name) ?? null },
        ]),
      ),
    };
  } finally {
    prepared.dispose();
  }
}

/** Returns a function that takes the times on one thread. */
function alone(time: Contender["time"]): Contender["time"] {
  return async (seconds, least) => {
    const all = threads();
    setThreads(1);
    try {
      return await time(seconds, least);
    } finally {
      setThreads(all);
    }
  };
}
