/**
 * Returns the post-processor of a tokenizer.json that puts tokens before and after a text, or null if there are no such
 * tokens.
 */
export function templateOf(
  before: readonly string[],
  after: readonly string[],
  ids: ReadonlyMap<string, number>,
): Record<string, unknown> | null {
  if (before.length + after.length === 0) return null;
  const piece = (id: string): unknown => ({ SpecialToken: { id, type_id: 0 } });
  const text = (id: string): unknown => ({ Sequence: { id, type_id: 0 } });
  const single = [...before.map(piece), text("A"), ...after.map(piece)];
  const tokens = [...new Set([...before, ...after])];
  return {
    type: "TemplateProcessing",
    single,
    pair: [...single, ...before.map(piece), text("B"), ...after.map(piece)],
    special_tokens: Object.fromEntries(
      tokens.map((token) => [token, { id: token, ids: [ids.get(token)], tokens: [token] }]),
    ),
  };
}
