import type { Flag } from "../gen/guidon/v1/flag_pb.ts";
import css from "./flag.module.css";
import { attributeName, segmentsOf } from "./rules.ts";

/** Reads says what a flag depends on, and what that means for propagation. */
export function Reads({ flag }: { flag: Flag }) {
	const segments = segmentsOf(flag.definition?.targeting);
	return (
		<section>
			<h2>Depends on</h2>
			<dl className={css.depends}>
				<dt>Context</dt>
				<dd>
					{flag.reads.length === 0 && "nothing: it is the same for every request"}
					<Names names={flag.reads.map(attributeName)} />
				</dd>
				{segments.length > 0 && (
					<>
						<dt>Segments</dt>
						<dd>
							<Names names={segments} />
						</dd>
					</>
				)}
				<dt>Decided</dt>
				<dd>{decided(flag)}</dd>
			</dl>
		</section>
	);
}

function Names({ names }: { names: string[] }) {
	return names.map((name) => (
		<span key={name} className={css.chip}>
			{name}
		</span>
	));
}

function decided({ scope, notTravelling }: Flag): string {
	if (scope === "local") return "in each service, at its newest revision; it is not propagated";
	if (notTravelling.length === 0) return "in each service, at the revision the request is pinned to";
	const verb = notTravelling.length === 1 ? "does" : "do";
	return `at the root of each request, and carried in the header: ${notTravelling.join(", ")} ${verb} not travel`;
}
