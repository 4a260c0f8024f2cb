import { Link } from "@tanstack/react-router";
import { Actor } from "../audit/actor.tsx";
import { differences } from "../audit/diff.ts";
import { EnvironmentName } from "../environment/name.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { Moment } from "../shell/time.tsx";
import css from "./flag.module.css";
import type { Everywhere } from "./flag.ts";
import { State } from "./state.tsx";

/** Matrix compares a flag's environments, one a row. */
export function Matrix({
	everywhere,
	environments,
}: {
	everywhere: Everywhere;
	environments: Environment[];
}) {
	const { byEnvironment, revisions } = everywhere;
	const [first] = byEnvironment.values();
	return (
		<div className={css.scroll} role="region" aria-label="All environments" tabIndex={0}>
			<table className={css.matrix}>
				<thead>
					<tr>
						<th scope="col">Environment</th>
						<th scope="col">State</th>
						<th scope="col">Definition</th>
						<th scope="col">Changed</th>
						<th scope="col">By</th>
					</tr>
				</thead>
				<tbody>
					{environments.map((environment) => {
						const { name, protected: guarded } = environment;
						const flag = byEnvironment.get(name);
						return (
							<tr key={name} data-guarded={guarded || undefined}>
								<th scope="row">
									<Link from="/flags/$key" to="." search={{ env: name }}>
										<EnvironmentName name={name} guarded={guarded} />
									</Link>
								</th>
								{flag ? (
									<>
										<td>
											<State flag={flag} environment={environment} expected={revisions[name] ?? 0n} />
										</td>
										<td>{comparison(first, flag)}</td>
										<td>
											revision {`${flag.revision}`}
											<div className={css.quiet}>
												<Moment at={flag.updatedAt} />
											</div>
										</td>
										<td className={css.actor}>
											<Actor actor={flag.updatedBy} />
										</td>
									</>
								) : (
									<td colSpan={4} className={css.quiet}>
										This environment does not have the flag: callers get their own default.
									</td>
								)}
							</tr>
						);
					})}
				</tbody>
			</table>
		</div>
	);
}

/** comparison says how a definition differs from the first environment's. */
function comparison(first: Flag | undefined, flag: Flag): string {
	if (first === undefined || first === flag) return "";
	const changed = differences(first.definition, flag.definition).map(({ path }) => path.replace(/^\$\./, ""));
	if (changed.length === 0) return `as in ${first.environment}`;
	return `differs from ${first.environment} in ${changed.join(", ")}`;
}
