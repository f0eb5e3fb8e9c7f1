/** The contract of the clients of a server, with what each of them is given. */
import type { Random } from "../support/random.js";
import type { Begun } from "./http-settings.js";

/** Surroundings of a client. */
export interface Lane extends Begun {
  random: Random;
  /** True while a fault lasts: requests to models that generate may then fail as those of a broken device do. */
  broken: () => boolean;
  /** Counts refused and failed requests. */
  refused: (code: string) => void;
}

/** Resolves if everything was as it should be. */
export type Client = (lane: Lane) => Promise<void>;
