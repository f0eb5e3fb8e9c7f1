// What the reader has selected: a token of a sequence. The views follow it.

/** A token of a sequence. */
export interface Selected {
  sequence: number;
  token: number;
}

type Listener = (selected: Selected | null) => void;

const listeners: Listener[] = [];
let current: Selected | null = null;

/** Returns the selected token, or null. */
export function selected(): Selected | null {
  return current;
}

/** Returns the selected token of a sequence, or null if it is of another one. */
export function selectedOf(sequence: number): number | null {
  return current?.sequence === sequence ? current.token : null;
}

/** Selects a token, or none. Selecting it again selects none. */
export function select(next: Selected | null): void {
  const same = next?.sequence === current?.sequence && next?.token === current?.token;
  current = same ? null : next;
  for (const listener of listeners) listener(current);
}

/** Tells all views the selection again, for one that was hidden when it changed. */
export function refresh(): void {
  for (const listener of listeners) listener(current);
}

/** Calls a function whenever the selection changes. */
export function onSelect(listener: Listener): void {
  listeners.push(listener);
}
