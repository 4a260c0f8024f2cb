import { Tabs } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { Band } from "../environment/band.tsx";
import { useEnvironments } from "../environment/environments.ts";
import { EnvironmentName } from "../environment/name.tsx";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { useTitle } from "../shell/title.ts";
import { FlagInEnvironment } from "./environment.tsx";
import css from "./flag.module.css";
import { useFlag } from "./flag.ts";
import { FlagHeader } from "./header.tsx";
import { Matrix } from "./matrix.tsx";

const route = getRouteApi("/signed-in/flags/$key");

/** all is the tab that compares environments. No environment has this name. */
const all = "*";

/** FlagPage shows one flag: what it is, and what it does in each environment. */
export function FlagPage() {
	const { key } = route.useParams();
	const { env = all, revision } = route.useSearch();
	const navigate = route.useNavigate();
	useTitle(key);
	const { environments } = useEnvironments();
	const { data, error } = useFlag(key);
	const [flag] = data?.byEnvironment.values() ?? [];
	const chosen = environments.find(({ name }) => name === env);

	return (
		<>
			{chosen?.protected && <Band name={chosen.name} />}
			<div className={css.page}>
				<nav aria-label="Breadcrumb" className={css.crumb}>
					<Link to="/flags" search={{ env: chosen?.name }}>
						Flags
					</Link>
				</nav>
				{error && <FaultNote fault={faultOf(error)} />}
				{data && !flag && <NoFlag flagKey={key} />}
				{data && flag && (
					<>
						<FlagHeader flag={flag} />
						<Tabs
							value={env}
							onChange={(next) =>
								void navigate({ search: { env: next === null || next === all ? undefined : next } })
							}
							keepMounted={false}
						>
							<Tabs.List className={css.tabs} aria-label="Environment">
								<Tabs.Tab value={all}>All environments</Tabs.Tab>
								{environments.map(({ name, protected: guarded }) => (
									<Tabs.Tab key={name} value={name}>
										<EnvironmentName name={name} guarded={guarded} />
									</Tabs.Tab>
								))}
							</Tabs.List>
							<Tabs.Panel value={all} className={css.panel}>
								<Matrix everywhere={data} environments={environments} />
							</Tabs.Panel>
							{environments.map((environment) => (
								<Tabs.Panel key={environment.name} value={environment.name} className={css.panel}>
									<FlagInEnvironment
										flagKey={key}
										flag={data.byEnvironment.get(environment.name)}
										environment={environment}
										expected={data.revisions[environment.name] ?? 0n}
										revision={revision}
									/>
								</Tabs.Panel>
							))}
						</Tabs>
					</>
				)}
			</div>
		</>
	);
}

function NoFlag({ flagKey }: { flagKey: string }) {
	return (
		<section className={css.missing}>
			<h1>
				No flag <code>{flagKey}</code>
			</h1>
			<p>No environment has it. Keys are case-sensitive.</p>
			<Link to="/flags" search={{ q: flagKey }}>
				Search the flags for it
			</Link>
		</section>
	);
}
