import { Tabs } from "@mantine/core";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import css from "./flag.module.css";
import { Snippet } from "./snippet.tsx";
import { commandOf, curlOf, goOf } from "./snippets.ts";

/** Snippets shows how to evaluate a flag from a shell and from Go. */
export function Snippets({ flag }: { flag: Flag }) {
	const snippets = [
		{ name: "curl", text: curlOf(flag, window.location.origin) },
		{ name: "CLI", text: commandOf(flag) },
		{ name: "Go", text: goOf(flag) },
	];
	return (
		<Tabs defaultValue="curl" keepMounted={false}>
			<Tabs.List aria-label="Ways to evaluate">
				{snippets.map(({ name }) => (
					<Tabs.Tab key={name} value={name}>
						{name}
					</Tabs.Tab>
				))}
			</Tabs.List>
			{snippets.map(({ name, text }) => (
				<Tabs.Panel key={name} value={name} className={css.snippet}>
					<Snippet label={name} text={text} />
				</Tabs.Panel>
			))}
		</Tabs>
	);
}
