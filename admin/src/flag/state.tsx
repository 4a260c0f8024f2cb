import { useProgress } from "../change/progress.ts";
import { useSwitching } from "../change/switching.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import css from "./state.module.css";
import { summaryOf } from "./summary.ts";

interface Properties {
	flag: Flag;
	environment: Environment;
	/** expected is the revision of the environment that shows. */
	expected: bigint;
}

/**
 * State shows a flag's state in one environment, and switches it. It shows what
 * the server said, never what was asked for.
 */
export function State({ flag, environment, expected }: Properties) {
	const begin = useSwitching();
	const { pending, revision } = useProgress(environment.name, flag.key);
	// Nothing is on or off about a value: config flags have no switch.
	const switchable = flag.kind !== "config" && !flag.archived;
	const on = flag.state === "ENABLED";
	return (
		<div className={css.state}>
			{switchable && (
				<button
					type="button"
					role="switch"
					className={css.switch}
					aria-checked={on}
					aria-label={`${flag.key} in ${environment.name}`}
					aria-busy={pending}
					onClick={() => {
						if (!pending) begin(flag, environment, !on, expected);
					}}
				/>
			)}
			<div className={css.words}>
				<SummaryLine flag={flag} />
				{pending ? (
					<div className={css.pending}>applying…</div>
				) : (
					// True as long as nobody has changed the flag since.
					revision === flag.revision && <div className={css.applied}>applied at revision {`${revision}`}</div>
				)}
			</div>
		</div>
	);
}

/** SummaryLine says "on · blue · 3 rules", with the variant set apart. */
export function SummaryLine({ flag }: { flag: Flag }) {
	const { state, serves, rules } = summaryOf(flag);
	const value = flag.kind === "config" && state === "on";
	const look = state === "on" ? css.on : state === "killed" ? css.killed : css.off;
	return (
		<div className={css.summary}>
			{!value && <span className={look}>{state}</span>}
			{serves && (
				<>
					{!value && <Dot />}
					<span className={css.variant}>{serves}</span>
				</>
			)}
			{rules && (
				<>
					<Dot />
					<span>{rules}</span>
				</>
			)}
		</div>
	);
}

function Dot() {
	return <span className={css.dot}> · </span>;
}
