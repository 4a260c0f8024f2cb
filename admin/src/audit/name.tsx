import { Link } from "@tanstack/react-router";
import type { AuditChange } from "../gen/guidon/v1/audit_pb.ts";
import css from "./audit.module.css";
import { isOfFlag } from "./entry.ts";

/** Name leads to the flag, where the change is about one. */
export function Name({ change: { kind, name }, environment }: { change: AuditChange; environment: string }) {
	if (!isOfFlag(kind)) return <span className={css.name}>{name}</span>;
	return (
		<Link
			to="/flags/$key"
			params={{ key: name }}
			search={{ env: environment || undefined }}
			className={css.name}
		>
			{name}
		</Link>
	);
}
