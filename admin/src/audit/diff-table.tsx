import { pretty } from "../json.ts";
import css from "./audit.module.css";
import type { Difference } from "./diff.ts";
import { compareLines, type Line } from "./lines.ts";

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
				{differences.map((difference) => (
					<Row key={difference.path} difference={difference} />
				))}
			</tbody>
		</table>
	);
}

function Row({ difference: { path, before, after } }: { difference: Difference }) {
	const [left, right] = compareLines(pretty(before), pretty(after));
	return (
		<tr>
			<th scope="row">{path}</th>
			<td>{before === undefined ? <Absent /> : <Side lines={left} className={css.removed} sign="−" />}</td>
			<td>{after === undefined ? <Absent /> : <Side lines={right} className={css.added} sign="+" />}</td>
		</tr>
	);
}

/** Side marks the lines of its own by a sign as well as by colour. */
function Side({ lines, className, sign }: { lines: Line[]; className: string | undefined; sign: string }) {
	return (
		<pre>
			{lines.map(({ text, own }, i) => (
				// biome-ignore lint/suspicious/noArrayIndexKey: the lines of a value never move
				<div key={i} className={own ? className : undefined}>
					<span aria-hidden="true">{own ? sign : " "} </span>
					{text}
				</div>
			))}
		</pre>
	);
}

function Absent() {
	return <span className={css.quiet}>not there</span>;
}
