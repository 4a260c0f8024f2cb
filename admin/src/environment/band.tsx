import { Icon } from "../theme/icon.tsx";
import css from "./environment.module.css";

/** Band stands over a page that acts on a protected environment. */
export function Band({ name }: { name: string }) {
	return (
		<div className={css.band} role="note" aria-label={`${name} is protected`}>
			<Icon name="shield" size={14} />
			<strong>{name}</strong>
			<span>Changes here are live, ask for a reason and are recorded.</span>
		</div>
	);
}
