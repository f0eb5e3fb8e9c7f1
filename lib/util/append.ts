/**
 * Appends items to a list. `list.push(...items)` overflows the stack for about 100,000 items, since each is an argument.
 */
export function append<T>(list: T[], items: Iterable<T>): void {
  for (const item of items) list.push(item);
}
