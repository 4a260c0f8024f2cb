import { callUnaryMethod } from "@connectrpc/connect-query";
import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { environmentsQuery, type Revisions, revisionsOf } from "../environment/environments.ts";
import { useFollow } from "../environment/follow.ts";
import { type Flag, FlagService } from "../gen/guidon/v1/flag_pb.ts";
import { transport } from "../session/transport.ts";
import { catchUp } from "./catch-up.ts";
import { everywhere, replaced } from "./everywhere.ts";

const pageSize = 1000;
/** limit on the flag keys held in the browser; beyond it the list says so. */
const maxPages = 10;

/**
 * Flags is every flag of every environment, and the revisions that it is at
 * least as new as: what an author who looks at it has seen.
 */
export interface Flags {
	flags: Flag[];
	revisions: Revisions;
	/** complete is false while pages are still to come, or if there are too many. */
	complete: boolean;
}

const flagsKey = ["flags"] as const;

function flagsQuery(client: QueryClient) {
	return {
		queryKey: flagsKey,
		queryFn: async ({ signal }: { signal: AbortSignal }): Promise<Flags> => {
			// Read before the flags: they may be newer than this, never older.
			const { environments } = await client.ensureQueryData(environmentsQuery);
			const revisions = revisionsOf(environments);
			const held = client.getQueryData<Flags>(flagsKey);
			const caughtUp = held?.complete && (await catchUp(transport, held, revisions, signal));
			if (caughtUp) return caughtUp;
			const flags: Flag[] = [];
			let pageToken = "";
			for (let page = 0; page < maxPages; page++) {
				const answer = await callUnaryMethod(
					transport,
					FlagService.method.list,
					{ pageSize, pageToken, includeArchived: true },
					{ signal },
				);
				flags.push(...answer.flags);
				pageToken = answer.nextPageToken;
				if (pageToken === "") break;
				// Show what is there at the first reading; later ones replace all at the end.
				if (held === undefined)
					client.setQueryData<Flags>(flagsKey, { flags: [...flags], revisions, complete: false });
			}
			return { flags, revisions, complete: pageToken === "" };
		},
		// Freshness is told by revisions, not by age.
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	};
}

/** useFlags keeps all flags current: it follows the environments' revisions. */
export function useFlags() {
	const query = useQuery(flagsQuery(useQueryClient()));
	useFollow(query);
	return query;
}

/**
 * readAgain replaces one flag by what the server has now, after a change that
 * led to a revision. What else happened meanwhile is noticed by the poll.
 */
export async function readAgain(
	client: QueryClient,
	environment: string,
	key: string,
	revision: bigint,
): Promise<void> {
	const now = await everywhere(transport, key);
	// A reading that began before the change must not end after it.
	if (client.getQueryData<Flags>(flagsKey)?.complete) await client.cancelQueries({ queryKey: flagsKey });
	client.setQueryData<Flags>(flagsKey, (held) => {
		if (held === undefined) return held;
		const next = (held.revisions[environment] ?? 0n) + 1n === revision;
		return {
			...held,
			flags: replaced(held.flags, key, now),
			revisions: next ? { ...held.revisions, [environment]: revision } : held.revisions,
		};
	});
	void client.invalidateQueries({ queryKey: environmentsQuery.queryKey });
	await client.invalidateQueries({ queryKey: ["flag", key] });
}
