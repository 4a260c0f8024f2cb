import { Icon } from "../theme/icon.tsx";
import css from "./environment.module.css";

interface Properties {
	name: string;
	guarded: boolean;
	/** brief leaves the word out where every row would repeat it. */
	brief?: boolean;
}

/** EnvironmentName marks a protected environment by icon, text and colour. */
export function EnvironmentName({ name, guarded, brief = false }: Properties) {
	if (!guarded) return <span className={css.name}>{name}</span>;
	return (
		<span className={css.guarded}>
			<Icon name="shield" size={14} />
			{name}
			{!brief && <span className={css.word}>protected</span>}
		</span>
	);
}
