import { Button } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { useEnvironments } from "../environment/environments.ts";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { useRowSteps } from "../shell/row-steps.ts";
import { useTitle } from "../shell/title.ts";
import css from "./audit.module.css";
import { useAudit } from "./audit.ts";
import { entryId } from "./entry.ts";
import { Filters } from "./filters.tsx";
import { AuditRow } from "./row.tsx";

const route = getRouteApi("/signed-in/audit");

/** maxSearched bounds how many entries are looked through for a permalink. */
const maxSearched = 5_000;

/** AuditPage is the log of who changed what, when and why. */
export function AuditPage() {
	useTitle("Audit");
	const { env = "", flag = "", actor = "", entry } = route.useSearch();
	const { environments } = useEnvironments();
	const query = useAudit({ environment: env, flag, actor });
	const { entries, data, error, hasNextPage, isFetching, fetchNextPage } = query;
	const body = useRef<HTMLTableElement>(null);
	useRowSteps(body, entries.length);

	const found = entry === undefined || entries.some((each) => entryId(each) === entry);
	const searching = data !== undefined && !found && hasNextPage && entries.length < maxSearched;
	useEffect(() => {
		if (searching && !isFetching) void fetchNextPage();
	}, [searching, isFetching, fetchNextPage]);

	return (
		<div className={css.page}>
			<div className={css.head}>
				<h1 className={css.title}>Audit</h1>
				<Filters environments={environments} />
			</div>
			{error && <FaultNote fault={faultOf(error)} />}
			{data && !found && !searching && (
				<p className={css.note} role="status">
					Entry {entry} is not among these. A filter may hide it, or it is older than the newest {maxSearched}{" "}
					entries.
				</p>
			)}
			{data && entries.length === 0 && <NoEntries filtered={env !== "" || flag !== "" || actor !== ""} />}
			{entries.length > 0 && (
				<table className={css.log} ref={body}>
					<thead>
						<tr>
							<th scope="col">When</th>
							<th scope="col">Who</th>
							<th scope="col">What</th>
							<th scope="col">Environment</th>
							<th scope="col">Revision</th>
							<th scope="col">Reason</th>
						</tr>
					</thead>
					{entries.map((each, index) => (
						<AuditRow
							key={entryId(each)}
							index={index}
							entry={each}
							guarded={environments.some(
								({ name, protected: guarded }) => guarded && name === each.environment,
							)}
							opened={entryId(each) === entry}
						/>
					))}
				</table>
			)}
			{hasNextPage && (
				<Button
					variant="default"
					loading={isFetching}
					onClick={() => void fetchNextPage()}
					className={css.older}
				>
					Show older entries
				</Button>
			)}
		</div>
	);
}

function NoEntries({ filtered }: { filtered: boolean }) {
	const navigate = route.useNavigate();
	return (
		<section className={css.empty}>
			<h2>{filtered ? "No entry matches these filters" : "Nothing has happened yet"}</h2>
			<p>
				{filtered
					? "Flag keys and actors are matched whole."
					: "Every change of a flag and of an API key is recorded here, with who, when and why."}
			</p>
			{filtered && (
				<Button variant="default" onClick={() => void navigate({ search: {} })}>
					Show all entries
				</Button>
			)}
		</section>
	);
}
