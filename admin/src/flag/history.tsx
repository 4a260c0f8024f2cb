import { callUnaryMethod } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useId, useState } from "react";
import { Actor } from "../audit/actor.tsx";
import { differences } from "../audit/diff.ts";
import { DiffTable } from "../audit/diff-table.tsx";
import { type Flag, FlagService, type FlagVersion } from "../gen/guidon/v1/flag_pb.ts";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { transport } from "../session/transport.ts";
import { Moment } from "../shell/time.tsx";
import { Icon } from "../theme/icon.tsx";
import css from "./history.module.css";

const pageSize = 25;

/** History lists the versions of a flag in an environment, newest first. */
export function History({
	environment,
	flagKey,
	current,
}: {
	environment: string;
	flagKey: string;
	current: bigint;
}) {
	const query = useInfiniteQuery({
		queryKey: ["flag", flagKey, environment, "history", String(current)],
		queryFn: ({ pageParam: pageToken, signal }) =>
			callUnaryMethod(
				transport,
				FlagService.method.history,
				{ environment, key: flagKey, pageSize, pageToken },
				{ signal },
			),
		initialPageParam: "",
		getNextPageParam: ({ nextPageToken }) => nextPageToken || undefined,
		placeholderData: keepPreviousData,
		staleTime: Number.POSITIVE_INFINITY,
		structuralSharing: false,
	});
	const versions = query.data?.pages.flatMap((page) => page.versions) ?? [];
	return (
		<section>
			<h2>History</h2>
			{query.error && <FaultNote fault={faultOf(query.error)} />}
			<ol className={css.history}>
				{versions.map((version, i) => (
					<Version
						key={String(version.flag?.revision)}
						version={version}
						before={versions[i + 1]}
						first={i + 1 === versions.length && !query.hasNextPage}
					/>
				))}
			</ol>
			{query.hasNextPage && (
				<Button
					variant="default"
					loading={query.isFetchingNextPage}
					onClick={() => void query.fetchNextPage()}
				>
					Show older versions
				</Button>
			)}
		</section>
	);
}

interface Properties {
	version: FlagVersion;
	/** before is the version that this one replaced, if it is loaded. */
	before: FlagVersion | undefined;
	first: boolean;
}

function Version({ version, before, first }: Properties) {
	const [opened, setOpened] = useState(false);
	const id = useId();
	const { flag, reason } = version;
	if (flag === undefined) return null;
	const changed = before && differences(before.flag?.definition, flag.definition);
	const killed = killing(flag, before?.flag);
	return (
		<li className={css.version}>
			<Link
				from="/flags/$key"
				to="."
				search={({ env }) => ({ env, revision: flag.revision })}
				className={css.versionRevision}
			>
				revision {`${flag.revision}`}
			</Link>
			<Moment at={flag.updatedAt} />
			<span className={css.actor}>
				<Actor actor={flag.updatedBy} />
			</span>
			<span className={css.reason}>{reason}</span>
			{changed?.length ? (
				<button
					type="button"
					className={css.disclose}
					aria-expanded={opened}
					aria-controls={id}
					onClick={() => setOpened(!opened)}
				>
					<Icon name="chevron" size={12} />
					{[killed, summary(changed.map(({ path }) => path))].filter(Boolean).join(", ")}
				</button>
			) : (
				<span className={css.quiet}>
					{killed || (first ? "created" : changed ? "nothing in the definition" : "")}
				</span>
			)}
			{opened && changed && (
				<div id={id} className={css.versionDiff}>
					<DiffTable differences={changed} label={`What revision ${flag.revision} changed`} />
				</div>
			)}
		</li>
	);
}

/** killing says whether a version killed the flag, or let it live again. */
function killing(flag: Flag, before: Flag | undefined): string {
	if (flag.killed?.revision === flag.revision) return `killed: ${flag.killed.variant}`;
	return before?.killed && !flag.killed ? "unkilled" : "";
}

function summary(paths: string[]): string {
	const names = paths.map((path) => path.replace(/^\$\./, ""));
	return names.length <= 2 ? names.join(", ") : `${names.length} fields`;
}
