import { Button } from "@mantine/core";
import { Snippet } from "../flag/snippet.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import { Mark } from "../shell/mark.tsx";
import css from "./flags.module.css";
import { fields, parseQuery } from "./query.ts";

/** NoFlags helps to the first flag. */
export function NoFlags({ environments }: { environments: Environment[] }) {
	const environment = environments.find((each) => !each.protected)?.name ?? "development";
	return (
		<section className={css.empty}>
			<Mark size={40} />
			<h2>No flags yet</h2>
			<p>
				Load the ones you have from a flagd document. Each becomes a flag in {environment}, in one change.
			</p>
			<Snippet
				label="Command"
				text={`guidon import --environment ${environment} --project default flags.json`}
			/>
			<p>They appear here as soon as they are in: this page follows by itself.</p>
		</section>
	);
}

/** NoMatch says why nothing was found. */
export function NoMatch({ query, onClear }: { query: string; onClear: () => void }) {
	const { unknown } = parseQuery(query);
	return (
		<section className={css.empty}>
			<h2>No flag matches</h2>
			{unknown.length > 0 && (
				<p>
					There is no field <code>{unknown[0]}:</code>. Fields are{" "}
					{fields.map((field) => (
						<code key={field}>{field}: </code>
					))}
				</p>
			)}
			<p>Archived flags are found with is:archived.</p>
			<Button variant="default" onClick={onClear}>
				Show all flags
			</Button>
		</section>
	);
}
