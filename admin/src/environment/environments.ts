import { createQueryOptions } from "@connectrpc/connect-query";
import { useQuery } from "@tanstack/react-query";
import { EnvironmentService } from "../gen/guidon/v1/environment_pb.ts";
import { transport } from "../session/transport.ts";

/** pollInterval, in milliseconds, bounds how late the UI learns of a change. */
const pollInterval = 2_000;

/** Revisions holds the newest revision of each environment, by name. */
export type Revisions = Record<string, bigint>;

/**
 * environmentsQuery is the one thing the UI polls: a few bytes that say which
 * revision each environment is at. Everything else is read again only when a
 * revision moved.
 */
export const environmentsQuery = {
	...createQueryOptions(EnvironmentService.method.list, { pageSize: 1000 }, { transport }),
	refetchInterval: pollInterval,
};

export function useEnvironments() {
	const query = useQuery(environmentsQuery);
	return { ...query, environments: query.data?.environments ?? [] };
}

export function revisionsOf(environments: { name: string; revision: bigint }[]): Revisions {
	return Object.fromEntries(environments.map(({ name, revision }) => [name, revision]));
}

/** isBehind reports whether an environment has moved on since held was read. */
export function isBehind(held: Revisions, newest: Revisions): boolean {
	return Object.entries(newest).some(([name, revision]) => revision > (held[name] ?? -1n));
}
