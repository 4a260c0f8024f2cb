import { Copy } from "../shell/copy.tsx";
import css from "./snippet.module.css";

/** Snippet is text to be copied: a command, code or JSON. */
export function Snippet({ label, text }: { label: string; text: string }) {
	return (
		<div className={css.snippet}>
			<pre tabIndex={0} role="region" aria-label={label}>
				{text}
			</pre>
			<div className={css.copy}>
				<Copy text={text} label={`Copy: ${label}`} />
			</div>
		</div>
	);
}
