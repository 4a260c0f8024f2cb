import { Code, ConnectError } from "@connectrpc/connect";
import { callUnaryMethod } from "@connectrpc/connect-query";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { environmentsQuery, type Revisions, revisionsOf } from "../environment/environments.ts";
import { useFollow } from "../flags/flags.ts";
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
			const flags = await Promise.all(environments.map(({ name }) => read(name, key, 0n, signal)));
			const byEnvironment = new Map(
				flags.flatMap((flag) => (flag === undefined ? [] : [[flag.environment, flag]])),
			);
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
		queryFn: async ({ signal }) => (await read(environment, key, revision ?? 0n, signal)) ?? null,
		enabled: revision !== undefined,
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	});
}

/** read is undefined where the environment does not have the flag. */
async function read(
	environment: string,
	key: string,
	revision: bigint,
	signal: AbortSignal,
): Promise<Flag | undefined> {
	try {
		const answer = await callUnaryMethod(
			transport,
			FlagService.method.get,
			{ environment, key, revision },
			{ signal },
		);
		return answer.flag;
	} catch (error) {
		if (ConnectError.from(error).code === Code.NotFound) return undefined;
		throw error;
	}
}
