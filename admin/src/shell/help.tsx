import { Kbd, Modal } from "@mantine/core";
import css from "./shell.module.css";

const keys: [string[], string][] = [
	[["/"], "search on this page"],
	[["⌘", "K"], "find a flag or a page (Ctrl K)"],
	[["j"], "next row"],
	[["k"], "previous row"],
	[["Enter"], "open the row"],
	[["u"], "undo the last switch, for ten seconds"],
	[["?"], "this help"],
];

const queries: [string, string][] = [
	["price", "key or description contains “price”"],
	["state:on", "on in the chosen environment, or in any"],
	["kind:ops", "release, experiment, ops, permission or config"],
	["tag:checkout", "has this tag; project: and owner: work alike"],
	["is:archived", "archived flags, which are left out otherwise"],
];

/** Help lists the keys, and what the search box of the flags understands. */
export function Help({ onClose }: { onClose: () => void }) {
	return (
		<Modal
			opened
			onClose={onClose}
			title="Keyboard and search"
			size="lg"
			closeButtonProps={{ "aria-label": "Close" }}
		>
			<div className={css.help}>
				<dl>
					{keys.map(([names, meaning]) => (
						<div key={meaning}>
							<dt>
								{names.map((name) => (
									<Kbd key={name}>{name}</Kbd>
								))}
							</dt>
							<dd>{meaning}</dd>
						</div>
					))}
				</dl>
				<dl>
					{queries.map(([query, meaning]) => (
						<div key={query}>
							<dt>
								<code>{query}</code>
							</dt>
							<dd>{meaning}</dd>
						</div>
					))}
				</dl>
			</div>
		</Modal>
	);
}
