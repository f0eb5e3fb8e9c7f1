// Decides how many tokens are drafted for each request. A draft pays if the tokens that it is expected to gain are worth
// the time that it adds to the step. How often drafts are accepted is known for each request, and the times of steps are
// measured; both are forgotten in time, so that what did not pay is tried again now and then.
import type { DraftLength } from "./drafter.js";
import type { Request } from "./request.js";
import { StepTimes } from "./step-times.js";

/** Share of drafts that are expected to be accepted when nothing is known. */
const hope = 0.7;
/** Factor of what is known with each further step with drafts. */
const fading = 0.9;
/** Factor of what is known with each step without drafts. */
const forgetting = 0.98;

/** Share of the drafts that were accepted of those that were compared, which ends with the first one that differs. */
class Acceptance {
  #accepted = 0;
  #compared = 0;
  readonly #prior: () => number;

  /** `prior` returns the share that is expected when nothing is known. */
  constructor(prior: () => number) {
    this.#prior = prior;
  }

  get rate(): number {
    return (this.#accepted + this.#prior()) / (this.#compared + 1);
  }

  add(accepted: number, compared: number): void {
    this.#fade(fading);
    this.#accepted += accepted;
    this.#compared += compared;
  }

  /** Forgets a little. */
  forget(): void {
    this.#fade(forgetting);
  }

  #fade(factor: number): void {
    this.#accepted *= factor;
    this.#compared *= factor;
  }
}

/** Chooses numbers of drafts by what was measured. */
export class DraftPolicy {
  /** Acceptance of all requests, which is expected of a new one. */
  readonly #overall = new Acceptance(() => hope);
  readonly #acceptances = new WeakMap<Request, Acceptance>();
  #steps = 0;
  /** Times of steps without drafts, by their number of tokens. */
  readonly #plain = new StepTimes(() => this.#steps);
  /** Times of steps with drafts, by their number of tokens. */
  readonly #verifying = new StepTimes(() => this.#steps);
  /** Times that a draft model takes for one token of each request, by the number of requests. */
  readonly #drafting = new StepTimes(() => this.#steps);

  /**
   * Returns how many tokens to draft for each of `requests`, which say how many are available. The step has `tokens`
   * tokens without drafts, of which `drawn` give their request a token, and room for `room` drafts.
   */
  choose(
    requests: readonly DraftLength[],
    { tokens, drawn, room }: { tokens: number; drawn: number; room: number },
  ): number[] {
    const chosen = requests.map(() => 0);
    const plain = this.#plain.at(tokens);
    // Without the time of a step without drafts, that is measured first.
    if (plain === null) return chosen;
    const gains = this.#gains(requests).slice(0, room);
    const drafting = this.#drafting.estimate(requests.length, [0, 0]);
    let [best, bestRate] = [0, drawn / plain];
    let [gained, longest] = [drawn, 0];
    for (const [i, { gain, length }] of gains.entries()) {
      gained += gain;
      longest = Math.max(longest, length);
      const time = this.#verifying.estimate(tokens + i + 1, [tokens, plain]) + longest * drafting;
      if (gained / time > bestRate) [best, bestRate] = [i + 1, gained / time];
    }
    for (const { index } of gains.slice(0, best)) chosen[index]!++;
    for (const [i, { request }] of requests.entries()) if (chosen[i] === 0) this.#acceptanceOf(request).forget();
    if (best === 0) this.#overall.forget();
    return chosen;
  }

  /** Notes how many of a request's drafts were accepted. */
  verified(request: Request, drafts: number, accepted: number): void {
    const compared = Math.min(accepted + 1, drafts);
    this.#acceptanceOf(request).add(accepted, compared);
    this.#overall.add(accepted, compared);
  }

  /** Notes the time in milliseconds that a step took, with or without drafts. */
  measured(tokens: number, drafts: number, time: number): void {
    this.#steps++;
    (drafts > 0 ? this.#verifying : this.#plain).add(tokens + drafts, time);
  }

  /** Notes the time in milliseconds in which a draft model drafted one token for each of some requests. */
  drafted(requests: number, time: number): void {
    this.#drafting.add(requests, time);
  }

  /** Returns what each further draft is expected to gain, the largest gain first. */
  #gains(requests: readonly DraftLength[]): { index: number; length: number; gain: number }[] {
    return requests
      .flatMap(({ request, count }, index) => {
        const { rate } = this.#acceptanceOf(request);
        return Array.from({ length: count }, (_, i) => ({ index, length: i + 1, gain: rate ** (i + 1) }));
      })
      .sort((a, b) => b.gain - a.gain || a.length - b.length);
  }

  #acceptanceOf(request: Request): Acceptance {
    let found = this.#acceptances.get(request);
    if (!found) this.#acceptances.set(request, (found = new Acceptance(() => this.#overall.rate)));
    return found;
  }
}
