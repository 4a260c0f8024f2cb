import { Link } from "@tanstack/react-router";
import { memo, type Ref } from "react";
import type { Revisions } from "../environment/environments.ts";
import { EnvironmentName } from "../environment/name.tsx";
import { descriptionOf } from "../flag/description.ts";
import { State } from "../flag/state.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import css from "./flags.module.css";
import type { Row } from "./query.ts";

interface Properties {
	ref: Ref<HTMLDivElement>;
	index: number;
	/** offset from the top of the table's body, in pixels. */
	offset: number;
	row: Row;
	environments: Environment[];
	chosen: string | undefined;
	revisions: Revisions;
}

/**
 * FlagRow is one flag key: what it is, and its state in each environment. It is
 * drawn again only if it changed, and not at each step of scrolling.
 */
export const FlagRow = memo(function FlagRow({
	ref,
	index,
	offset,
	row,
	environments,
	chosen,
	revisions,
}: Properties) {
	const { key, flag, byEnvironment } = row;
	const description = descriptionOf(flag);
	return (
		<div
			ref={ref}
			role="row"
			aria-rowindex={index + 2}
			data-index={index}
			className={css.row}
			style={{ transform: `translateY(${offset}px)` }}
		>
			<div role="cell" className={css.flag}>
				<Link to="/flags/$key" params={{ key }} search={{ env: chosen }} className={css.key}>
					{key}
				</Link>
				<div className={css.description}>
					<span className={css.folded}>
						{flag.kind} · {flag.project}
						{description && " · "}
					</span>
					{description}
				</div>
			</div>
			<div role="cell" className={css.wide}>
				{flag.kind}
			</div>
			<div role="cell" className={css.wide}>
				{flag.project}
			</div>
			<div role="cell" className={css.wide}>
				<Tags tags={flag.tags} />
			</div>
			{environments.map((environment) => {
				const { name } = environment;
				const here = byEnvironment.get(name);
				return (
					<div role="cell" key={name} className={css.cell} data-guarded={environment.protected || undefined}>
						<span className={css.label}>
							<EnvironmentName name={name} guarded={environment.protected} brief />
						</span>
						{here ? (
							<State flag={here} environment={environment} expected={revisions[name] ?? 0n} />
						) : (
							<span className={css.absent}>not here</span>
						)}
					</div>
				);
			})}
		</div>
	);
});

const shownTags = 2;

function Tags({ tags }: { tags: string[] }) {
	if (tags.length === 0) return null;
	const rest = tags.slice(shownTags);
	return (
		<span className={css.tags} title={tags.join(", ")}>
			{tags.slice(0, shownTags).map((tag) => (
				<span key={tag} className={css.tag}>
					{tag}
				</span>
			))}
			{rest.length > 0 && <span className={css.more}>+{rest.length}</span>}
		</span>
	);
}
