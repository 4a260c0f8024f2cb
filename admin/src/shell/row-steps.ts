import { useHotkeys } from "@mantine/hooks";
import type { RefObject } from "react";

/**
 * useRowSteps lets j and k move the focus over the rows in body, which carry
 * their place in data-index. reveal brings a row into being that is out of view.
 */
export function useRowSteps(
	body: RefObject<HTMLElement | null>,
	count: number,
	reveal?: (index: number) => void,
): void {
	function step(by: number) {
		const at = document.activeElement?.closest("[data-index]")?.getAttribute("data-index");
		const index = at == null ? 0 : Math.min(count - 1, Math.max(0, Number(at) + by));
		reveal?.(index);
		requestAnimationFrame(() => {
			body.current?.querySelector<HTMLElement>(`[data-index="${index}"] :is(a, button)`)?.focus();
		});
	}
	useHotkeys([
		["j", () => step(1)],
		["k", () => step(-1)],
	]);
}
