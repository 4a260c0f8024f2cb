import { callUnaryMethod } from "@connectrpc/connect-query";
import { type QueryClient, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import {
	environmentsQuery,
	isBehind,
	type Revisions,
	revisionsOf,
	useEnvironments,
} from "../environment/environments.ts";
import { type Flag, FlagService } from "../gen/guidon/v1/flag_pb.ts";
import { transport } from "../session/transport.ts";

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
			const first = client.getQueryData(flagsKey) === undefined;
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
				if (first) client.setQueryData<Flags>(flagsKey, { flags: [...flags], revisions, complete: false });
			}
			return { flags, revisions, complete: pageToken === "" };
		},
		// Freshness is told by revisions, not by age.
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	};
}

/** useFlags keeps all flags current: it reads them again when a revision moved. */
export function useFlags() {
	const query = useQuery(flagsQuery(useQueryClient()));
	useFollow(query);
	return query;
}

/** useFollow reads again what was read at revisions that are not the newest. */
export function useFollow(query: {
	data?: { revisions: Revisions } | undefined;
	isFetching: boolean;
	refetch(): unknown;
}) {
	const { data: newest } = useEnvironments();
	const { data, isFetching, refetch } = query;
	const behind =
		data !== undefined && newest !== undefined && isBehind(data.revisions, revisionsOf(newest.environments));
	useEffect(() => {
		if (behind && !isFetching) refetch();
	}, [behind, isFetching, refetch]);
}

/**
 * readAgain replaces one flag by what the server has now, after a change that
 * led from the revision the list was at to the next one. Whatever else happened
 * is noticed by the poll.
 */
export async function readAgain(
	client: QueryClient,
	environment: string,
	key: string,
	revision: bigint,
): Promise<void> {
	const { flag } = await callUnaryMethod(transport, FlagService.method.get, { environment, key });
	client.setQueryData<Flags>(flagsKey, (held) => {
		if (held === undefined || flag === undefined) return held;
		const next = (held.revisions[environment] ?? 0n) + 1n === revision;
		return {
			...held,
			flags: held.flags.map((each) => (each.key === key && each.environment === environment ? flag : each)),
			revisions: next ? { ...held.revisions, [environment]: revision } : held.revisions,
		};
	});
	await client.invalidateQueries({ queryKey: environmentsQuery.queryKey });
	await client.invalidateQueries({ queryKey: ["flag", key] });
}
