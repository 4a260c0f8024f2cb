import { useEffect } from "react";
import { isBehind, type Revisions, revisionsOf, useEnvironments } from "./environments.ts";

interface Query {
	data?: { revisions: Revisions } | undefined;
	isFetching: boolean;
	refetch(): unknown;
}

/** useFollow reads again what was read at revisions that are not the newest. */
export function useFollow({ data, isFetching, refetch }: Query) {
	const { data: newest } = useEnvironments();
	const behind =
		data !== undefined && newest !== undefined && isBehind(data.revisions, revisionsOf(newest.environments));
	useEffect(() => {
		if (behind && !isFetching) refetch();
	}, [behind, isFetching, refetch]);
}
