import { callUnaryMethod } from "@connectrpc/connect-query";
import { Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { environmentsQuery } from "../environment/environments.ts";
import { Snippet } from "../flag/snippet.tsx";
import { ChangeService } from "../gen/guidon/v1/change_pb.ts";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { transport } from "../session/transport.ts";
import { Mark } from "../shell/mark.tsx";
import css from "./flags.module.css";
import { fields, parseQuery } from "./query.ts";

/** example is a flag to try things with. */
const example = {
	key: "example.welcome",
	description: "An example: change it, archive it",
	definition: { state: "ENABLED", variants: { on: true, off: false }, defaultVariant: "off" },
	createOnly: true,
};

/** NoFlags helps to the first flag. */
export function NoFlags({ environments }: { environments: Environment[] }) {
	const environment = environments.find((each) => !each.protected)?.name ?? "development";
	const client = useQueryClient();
	const { mutate, isPending, error } = useMutation({
		mutationFn: () =>
			callUnaryMethod(transport, ChangeService.method.apply, {
				operations: [{ operation: { case: "putFlag", value: { ...example, environment } } }],
				reason: "An example to start with",
			}),
		// The new revision makes the list read itself again.
		onSuccess: () => client.invalidateQueries({ queryKey: environmentsQuery.queryKey }),
	});
	return (
		<section className={css.empty}>
			<Mark size={40} />
			<h2>No flags yet</h2>
			<p>Start with an example, or load the flags you have from a flagd document.</p>
			<Button onClick={() => mutate()} loading={isPending}>
				Create {example.key} in {environment}
			</Button>
			{error && <FaultNote fault={faultOf(error)} />}
			<div className={css.command}>
				<Snippet
					label="Command"
					text={`guidon import --environment ${environment} --project default flags.json`}
				/>
			</div>
			<p>What others create appears here by itself.</p>
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
