import { useMutationState } from "@tanstack/react-query";
import type { Applied, Switch } from "./switch.ts";

/** mutationKey is that of every switch. */
export const mutationKey = ["switch"] as const;

export interface Progress {
	pending: boolean;
	/** revision is what the newest switch was applied at, if it was, a moment ago. */
	revision: bigint | undefined;
}

/** useProgress says what became of the newest switch of a flag. */
export function useProgress(environment: string, key: string): Progress {
	const states = useMutationState({
		filters: { mutationKey, predicate: ({ state }) => concerns(state.variables, environment, key) },
		select: ({ state }) => ({
			pending: state.status === "pending",
			revision: (state.data as Applied | undefined)?.revision,
		}),
	});
	return states.at(-1) ?? { pending: false, revision: undefined };
}

function concerns(variables: unknown, environment: string, key: string): boolean {
	const wish = variables as Switch | undefined;
	return wish?.environment === environment && wish.key === key;
}
