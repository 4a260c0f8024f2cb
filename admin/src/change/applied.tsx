import { Button } from "@mantine/core";
import css from "./change.module.css";
import type { Switch } from "./switch.ts";

/** AppliedNote says what the server did, and offers to take it back. */
export function AppliedNote({
	wish,
	revision,
	onUndo,
}: {
	wish: Switch;
	revision: bigint;
	onUndo: () => void;
}) {
	const state = wish.kill === undefined ? (wish.on ? "on" : "off") : wish.on ? "alive" : "killed";
	return (
		<div className={css.note}>
			<div>
				<span className={css.key}>{wish.key}</span> is <strong>{state}</strong> in {wish.environment}
				<div className={css.applied}>
					{revision > 0n ? `applied at revision ${revision}` : `it was ${state} already: nothing changed`}
				</div>
			</div>
			{revision > 0n && (
				<Button variant="default" size="compact-sm" onClick={onUndo} aria-keyshortcuts="u">
					Undo
				</Button>
			)}
		</div>
	);
}
