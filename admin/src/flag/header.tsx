import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { Copy } from "../shell/copy.tsx";
import { descriptionOf } from "./description.ts";
import css from "./flag.module.css";

/** FlagHeader says what is the same in every environment. */
export function FlagHeader({ flag }: { flag: Flag }) {
	const description = descriptionOf(flag);
	const facts: [string, string][] = [
		["kind", flag.kind],
		["type", flag.type],
		["scope", flag.scope],
		["project", flag.project],
		["owner", flag.owner],
		["tags", flag.tags.join(", ")],
	];
	return (
		<header className={css.header}>
			<div className={css.heading}>
				<h1 className={css.key}>{flag.key}</h1>
				<Copy text={flag.key} label="Copy the flag key" />
				{flag.archived && <span className={css.archived}>archived</span>}
			</div>
			{description && <p className={css.description}>{description}</p>}
			<dl className={css.facts}>
				{facts
					.filter(([, value]) => value !== "")
					.map(([name, value]) => (
						<div key={name}>
							<dt>{name}</dt>
							<dd>{value}</dd>
						</div>
					))}
			</dl>
		</header>
	);
}
