import { useEnvironments } from "../environment/environments.ts";
import { faultOf } from "../session/fault.ts";
import css from "./shell.module.css";
import { clock } from "./time.tsx";

/** LiveStatus says whether what shows is current, and since when it is not. */
export function LiveStatus() {
	const { isError, isPending, error, dataUpdatedAt, failureCount, failureReason } = useEnvironments();
	if (isPending) return <div className={css.live} role="status" />;
	const failing = isError || failureCount > 0;
	if (!failing) {
		return (
			<div className={css.live} role="status" title="Changes by others appear within two seconds.">
				<span className={css.dot} aria-hidden="true" />
				live
			</div>
		);
	}
	return (
		<div className={css.stale} role="status" title={faultOf(error ?? failureReason).title}>
			<span className={css.dot} aria-hidden="true" />
			server away: as of {clock(new Date(dataUpdatedAt))}
		</div>
	);
}
