/** A figure and its goal. */
export interface Finding {
  text: string;
  got: number;
  unit: string;
  /** Least or largest value that is wanted; null if there is no goal. */
  goal: { least: number } | { most: number } | null;
}

/** Returns true if a goal is reached, or if there is none. */
export function isMet({ got, goal }: Finding): boolean {
  return goal === null || ("least" in goal ? got >= goal.least : got <= goal.most);
}
