import { Code, ConnectError } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { environmentsQuery, type Revisions, revisionsOf } from "../environment/environments.ts";
import { useFollow } from "../environment/follow.ts";
import { everywhere } from "../flags/everywhere.ts";
import { type Flag, FlagService } from "../gen/guidon/v1/flag_pb.ts";
import { transport } from "../session/transport.ts";

/** Everywhere is one flag in every environment that has it. */
export interface Everywhere {
	byEnvironment: Map<string, Flag>;
	revisions: Revisions;
}

/** useFlag keeps one flag current in all environments. */
export function useFlag(key: string) {
	const client = useQueryClient();
	const query = useQuery({
		queryKey: ["flag", key],
		queryFn: async ({ signal }): Promise<Everywhere> => {
			const { environments } = await client.ensureQueryData(environmentsQuery);
			const flags = await everywhere(transport, key, signal);
			const byEnvironment = new Map(flags.map((flag) => [flag.environment, flag]));
			return { byEnvironment, revisions: revisionsOf(environments) };
		},
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	});
	useFollow(query);
	return query;
}

/** useFlagAt reads a flag as of a revision, which never changes. */
export function useFlagAt(environment: string, key: string, revision: bigint | undefined) {
	return useQuery({
		queryKey: ["flag", key, environment, String(revision)],
		queryFn: ({ signal }) => readAt(environment, key, revision ?? 0n, signal),
		enabled: revision !== undefined,
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	});
}

/** readAt is null if there was no such flag at the revision. */
async function readAt(
	environment: string,
	key: string,
	revision: bigint,
	signal: AbortSignal,
): Promise<Flag | null> {
	try {
		const answer = await callUnaryMethod(
			transport,
			FlagService.method.get,
			{ environment, key, revision },
			{ signal },
		);
		return answer.flag ?? null;
	} catch (error) {
		if (ConnectError.from(error).code === Code.NotFound) return null;
		throw error;
	}
}
