import { Icon } from "../theme/icon.tsx";
import css from "./environment.module.css";

/** EnvironmentName marks a protected environment by icon, text and colour. */
export function EnvironmentName({ name, guarded }: { name: string; guarded: boolean }) {
	if (!guarded) return <span className={css.name}>{name}</span>;
	return (
		<span className={css.guarded}>
			<Icon name="shield" size={14} />
			{name}
			<span className={css.word}>protected</span>
		</span>
	);
}
