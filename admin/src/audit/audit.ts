import { callUnaryMethod } from "@connectrpc/connect-query";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { useEnvironments } from "../environment/environments.ts";
import { AuditService } from "../gen/guidon/v1/audit_pb.ts";
import { transport } from "../session/transport.ts";

export interface AuditFilter {
	environment: string;
	flag: string;
	actor: string;
}

const pageSize = 100;

/** useAudit pages over the audit log, newest first, and follows new entries. */
export function useAudit(filter: AuditFilter) {
	const query = useInfiniteQuery({
		queryKey: ["audit", filter],
		queryFn: ({ pageParam: pageToken, signal }) =>
			callUnaryMethod(transport, AuditService.method.list, { ...filter, pageSize, pageToken }, { signal }),
		initialPageParam: "",
		getNextPageParam: ({ nextPageToken }) => nextPageToken || undefined,
		placeholderData: keepPreviousData,
		structuralSharing: false,
	});
	const { refetch } = query;
	const { environments } = useEnvironments();
	const newest = environments.map(({ revision }) => revision).join(" ");
	const followed = useRef(newest);
	useEffect(() => {
		if (followed.current === newest) return;
		followed.current = newest;
		void refetch();
	}, [newest, refetch]);
	return { ...query, entries: query.data?.pages.flatMap((page) => page.entries) ?? [] };
}
