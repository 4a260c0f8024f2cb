import { useEffect } from "react";

/** useTitle names the page in the browser's tab and history. */
export function useTitle(title: string): void {
	useEffect(() => {
		document.title = `${title} · Guidon`;
	}, [title]);
}
