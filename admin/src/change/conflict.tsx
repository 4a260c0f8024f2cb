import { Link } from "@tanstack/react-router";
import type { Conflict } from "../gen/guidon/v1/change_pb.ts";
import css from "./change.module.css";
import type { Switch } from "./switch.ts";

/** ConflictNote tells what changed since the author looked. */
export function ConflictNote({
	conflict,
	wish,
	onLeave,
}: {
	conflict: Conflict;
	wish: Switch;
	onLeave: () => void;
}) {
	return (
		<div className={css.conflict} role="alert">
			<strong>Nothing was applied: {conflict.environment} changed meanwhile</strong>
			<p>
				You looked at revision {String(conflict.expectedRevision)}; it is at revision{" "}
				{String(conflict.revision)} now.
			</p>
			<ul>
				{conflict.changed.map(({ kind, name, action }) => (
					<li key={`${kind} ${name}`}>
						{kind} <span className={css.key}>{name}</span> {action}
					</li>
				))}
			</ul>
			<Link to="/audit" search={{ env: conflict.environment, flag: wish.key }} onClick={onLeave}>
				Who changed it, and why
			</Link>
		</div>
	);
}
