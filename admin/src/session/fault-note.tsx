import { Icon } from "../theme/icon.tsx";
import type { Fault } from "./fault.ts";
import css from "./session.module.css";

/** FaultNote names the cause of a refused or failed call, and each place. */
export function FaultNote({ fault }: { fault: Fault }) {
	return (
		<div className={css.fault} role="alert">
			<Icon name="warning" />
			<div>
				<strong>{fault.title}</strong>
				{fault.detail && fault.detail !== fault.title && <p>{fault.detail}</p>}
				{fault.problems.length > 0 && (
					<ul>
						{fault.problems.map((problem) => (
							<li key={`${problem.operation} ${problem.path} ${problem.message}`}>
								{problem.path && <code>{problem.path}</code>} {problem.message}
							</li>
						))}
						{fault.more > 0 && <li>and {fault.more} more</li>}
					</ul>
				)}
			</div>
		</div>
	);
}
