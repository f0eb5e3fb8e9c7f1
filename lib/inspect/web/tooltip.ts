import { byId } from "../../web/dom.js";

/** Shows a text beside the pointer. */
export function showTooltip({ clientX, clientY }: MouseEvent, text: string): void {
  const box = byId("tooltip");
  box.textContent = text;
  box.hidden = false;
  const { offsetWidth, offsetHeight } = box;
  const below = clientY + 16 + offsetHeight < innerHeight;
  box.style.left = `${Math.max(8, Math.min(clientX + 12, innerWidth - offsetWidth - 8))}px`;
  box.style.top = `${below ? clientY + 16 : Math.max(8, clientY - offsetHeight - 12)}px`;
}

/** Hides the text beside the pointer. */
export function hideTooltip(): void {
  byId("tooltip").hidden = true;
}
