import type { AuditEntry } from "../gen/guidon/v1/audit_pb.ts";
import { Copy } from "../shell/copy.tsx";
import css from "./audit.module.css";
import { DiffTable } from "./diff-table.tsx";
import { differencesOf, kindName } from "./entry.ts";
import { Name } from "./name.tsx";

/** AuditDetail is all that is known of an entry. */
export function AuditDetail({ entry }: { entry: AuditEntry }) {
	const facts: [string, string][] = [
		["Permalink", window.location.href],
		["Actor", entry.actor],
		["From", entry.origin],
		["Change set", entry.changeId],
		["Correlation ID", entry.correlationId],
		["Place in the chain", String(entry.sequence)],
		["Hash", entry.hash],
	];
	return (
		<>
			{entry.changes.map((change) => (
				<section key={`${change.kind} ${change.name}`}>
					<h3>
						{change.action} {kindName(change.kind)} <Name change={change} environment={entry.environment} />
					</h3>
					<DiffTable differences={differencesOf(change)} label={`What changed in ${change.name}`} />
				</section>
			))}
			<dl className={css.facts}>
				{facts
					.filter(([, value]) => value !== "")
					.map(([name, value]) => (
						<div key={name}>
							<dt>{name}</dt>
							<dd>
								<span>{value}</span>
								<Copy text={value} label={`Copy: ${name}`} />
							</dd>
						</div>
					))}
			</dl>
		</>
	);
}
