import { Link } from "@tanstack/react-router";
import { useEffect, useId, useRef } from "react";
import { EnvironmentName } from "../environment/name.tsx";
import type { AuditEntry } from "../gen/guidon/v1/audit_pb.ts";
import { Moment } from "../shell/time.tsx";
import { Icon } from "../theme/icon.tsx";
import css from "./audit.module.css";
import { AuditDetail } from "./detail.tsx";
import {
	actorName,
	createdName,
	differencesOf,
	entryId,
	installation,
	isOfFlag,
	kindName,
	shortDifference,
} from "./entry.ts";
import { Name } from "./name.tsx";

interface Properties {
	index: number;
	entry: AuditEntry;
	guarded: boolean;
	opened: boolean;
}

/** AuditRow is one entry; opening it puts its permalink into the address. */
export function AuditRow({ index, entry, guarded, opened }: Properties) {
	const id = useId();
	const row = useRef<HTMLTableSectionElement>(null);
	// A permalink is opened to see this entry; a click has it in view already.
	const arrived = useRef(opened);
	useEffect(() => {
		if (arrived.current) row.current?.scrollIntoView({ block: "center" });
	}, []);
	return (
		<tbody ref={row} className={css.entry} data-index={index} data-opened={opened || undefined}>
			<tr>
				<td className={css.when}>
					<Link
						from="/audit"
						to="."
						search={(search) => ({ ...search, entry: opened ? undefined : entryId(entry) })}
						replace
						resetScroll={false}
						className={css.open}
						role="button"
						aria-expanded={opened}
						aria-controls={id}
					>
						<Icon name="chevron" size={12} />
						<Moment at={entry.occurredAt} />
					</Link>
				</td>
				<td className={css.who}>
					<Link
						from="/audit"
						to="."
						search={(search) => ({ ...search, actor: entry.actor })}
						title={entry.actor}
					>
						{actorName(entry.actor)}
					</Link>
				</td>
				<td className={css.what}>
					<What entry={entry} />
				</td>
				<td>
					{entry.environment ? (
						<EnvironmentName name={entry.environment} guarded={guarded} brief />
					) : (
						installation
					)}
				</td>
				<td className={css.revision}>{entry.revision > 0n && `revision ${entry.revision}`}</td>
				<td className={css.reason}>{entry.reason || <span className={css.quiet}>no reason given</span>}</td>
			</tr>
			{opened && (
				<tr id={id}>
					<td colSpan={6} className={css.detail}>
						<AuditDetail entry={entry} />
					</td>
				</tr>
			)}
		</tbody>
	);
}

function What({ entry }: { entry: AuditEntry }) {
	const [first, ...rest] = entry.changes;
	if (first === undefined) return entry.action;
	const differences = differencesOf(first);
	const given = createdName(differences);
	const difference = shortDifference(differences);
	return (
		<>
			{first.action} {!isOfFlag(first.kind) && `${kindName(first.kind)} `}
			{given ? (
				<span className={css.name}>{given}</span>
			) : (
				<Name change={first} environment={entry.environment} />
			)}
			{rest.length > 0 && ` and ${rest.length} more`}
			{rest.length === 0 && (
				<div className={css.quiet}>
					{given ? <span className={css.id}>{first.name}</span> : difference !== first.action && difference}
				</div>
			)}
		</>
	);
}
