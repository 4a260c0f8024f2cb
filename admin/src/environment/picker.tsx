import { Link } from "@tanstack/react-router";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import css from "./environment.module.css";
import { EnvironmentName } from "./name.tsx";

/** Picker chooses one environment, or all of them, by the address. */
export function Picker({
	environments,
	chosen,
}: {
	environments: Environment[];
	chosen: string | undefined;
}) {
	return (
		<nav className={css.picker} aria-label="Environment">
			<Choice chosen={chosen === undefined} name={undefined}>
				All environments
			</Choice>
			{environments.map(({ name, protected: guarded }) => (
				<Choice key={name} chosen={chosen === name} name={name}>
					<EnvironmentName name={name} guarded={guarded} />
				</Choice>
			))}
		</nav>
	);
}

function Choice({
	chosen,
	name,
	children,
}: {
	chosen: boolean;
	name: string | undefined;
	children: React.ReactNode;
}) {
	return (
		<Link
			to="/flags"
			search={({ q }) => ({ q, env: name })}
			className={css.choice}
			aria-current={chosen ? "true" : undefined}
			activeOptions={{ exact: true }}
		>
			{children}
		</Link>
	);
}
