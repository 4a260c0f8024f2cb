import type { JsonValue } from "@bufbuild/protobuf";
import { pretty } from "../json.ts";
import css from "./audit.module.css";
import type { Difference } from "./diff.ts";

/** DiffTable shows each changed field before and after, side by side. */
export function DiffTable({ differences, label }: { differences: Difference[]; label: string }) {
	if (differences.length === 0) return <p className={css.quiet}>No field of the definition changed.</p>;
	return (
		<table className={css.diff} aria-label={label}>
			<thead>
				<tr>
					<th scope="col">Field</th>
					<th scope="col">Before</th>
					<th scope="col">After</th>
				</tr>
			</thead>
			<tbody>
				{differences.map(({ path, before, after }) => (
					<tr key={path}>
						<th scope="row">{path}</th>
						<td>
							<Side json={before} className={css.removed} sign="−" />
						</td>
						<td>
							<Side json={after} className={css.added} sign="+" />
						</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}

function Side({
	json,
	className,
	sign,
}: {
	json: JsonValue | undefined;
	className: string | undefined;
	sign: string;
}) {
	if (json === undefined) return <span className={css.quiet}>not there</span>;
	return (
		<pre className={className}>
			<span aria-hidden="true">{sign} </span>
			{pretty(json)}
		</pre>
	);
}
