import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { Actor } from "../audit/actor.tsx";
import { useSwitching } from "../change/switching.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import { pretty } from "../json.ts";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { Moment } from "../shell/time.tsx";
import css from "./flag.module.css";
import { useFlagAt } from "./flag.ts";
import { History } from "./history.tsx";
import { Reads } from "./reads.tsx";
import { Snippet } from "./snippet.tsx";
import { Snippets } from "./snippet-tabs.tsx";
import { State, SummaryLine } from "./state.tsx";
import { Targeting } from "./targeting.tsx";
import { Variants } from "./variants.tsx";

interface Properties {
	flagKey: string;
	flag: Flag | undefined;
	environment: Environment;
	expected: bigint;
	/** revision to look back to; undefined for the newest. */
	revision: bigint | undefined;
}

/** FlagInEnvironment shows a flag in one environment, now or as of a revision. */
export function FlagInEnvironment({ flagKey, flag: newest, environment, expected, revision }: Properties) {
	const { data: past, error } = useFlagAt(environment.name, flagKey, revision);
	const flag = revision === undefined ? newest : past;
	return (
		<>
			{revision !== undefined && <AsOf revision={revision} missing={past === null} />}
			{error && <FaultNote fault={faultOf(error)} />}
			{revision === undefined && !newest && (
				<p className={css.quiet}>
					{environment.name} does not have this flag: callers get their own default.
				</p>
			)}
			{flag && (
				<div className={css.columns}>
					<div className={css.column}>
						<section className={css.now}>
							{revision === undefined ? (
								<State flag={flag} environment={environment} expected={expected} />
							) : (
								<SummaryLine flag={flag} />
							)}
							<p className={css.quiet}>
								{flag.killed && "defined as below "}since revision {`${flag.revision}`},{" "}
								<Moment at={flag.updatedAt} />, <Actor actor={flag.updatedBy} />
							</p>
							{!flag.killed && flag.state === "ENABLED" && flag.problem && (
								<p className={css.quiet}>
									The definition does not compile, so every caller gets its own default and PARSE_ERROR:{" "}
									{flag.problem}
								</p>
							)}
							{flag.killed && (
								<p className={css.quiet}>
									Killed at revision {`${flag.killed.revision}`}: every request gets “{flag.killed.variant}”,
									those under way too. Nothing below is looked at.
								</p>
							)}
							{revision === undefined && flag.kind !== "config" && !flag.archived && (
								<Emergency flag={flag} environment={environment} expected={expected} />
							)}
							{!flag.killed && flag.state !== "ENABLED" && (
								<p className={css.quiet}>
									Off: every caller gets its own default. Nothing below is looked at.
								</p>
							)}
						</section>
						<Targeting flag={flag} />
						<Variants flag={flag} />
					</div>
					<div className={css.column}>
						<Reads flag={flag} />
						<section>
							<h2>Evaluate it</h2>
							<Snippets flag={flag} />
						</section>
						<details className={css.definition}>
							<summary>Definition as JSON</summary>
							<Snippet label="Definition" text={pretty(flag.definition)} />
						</details>
					</div>
				</div>
			)}
			{(newest ?? past) && (
				<History environment={environment.name} flagKey={flagKey} current={newest?.revision ?? 0n} />
			)}
		</>
	);
}

/** Emergency kills a flag, or lets a killed one live again. */
function Emergency({
	flag,
	environment,
	expected,
}: {
	flag: Flag;
	environment: Environment;
	expected: bigint;
}) {
	const begin = useSwitching();
	return flag.killed ? (
		<Button
			className={css.emergency}
			variant="default"
			size="compact-sm"
			onClick={() => begin(flag, environment, true, expected, "unkill")}
		>
			Unkill
		</Button>
	) : (
		<Button
			className={css.emergency}
			variant="default"
			size="compact-sm"
			onClick={() => begin(flag, environment, false, expected, "ask")}
		>
			Switch off…
		</Button>
	);
}

function AsOf({ revision, missing }: { revision: bigint; missing: boolean }) {
	return (
		<div className={css.asOf} role="status">
			<span>
				{missing
					? `There was no such flag at revision ${revision}.`
					: `This is the flag as of revision ${revision}, not the newest.`}
			</span>
			<Link from="/flags/$key" to="." search={({ env }) => ({ env })}>
				Back to the newest
			</Link>
		</div>
	);
}
