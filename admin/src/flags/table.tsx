import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type CSSProperties, useLayoutEffect, useRef, useState } from "react";
import type { Revisions } from "../environment/environments.ts";
import { EnvironmentName } from "../environment/name.tsx";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import { useRowSteps } from "../shell/row-steps.ts";
import css from "./flags.module.css";
import type { Row } from "./query.ts";
import { FlagRow } from "./row.tsx";

interface Properties {
	rows: Row[];
	environments: Environment[];
	chosen: string | undefined;
	revisions: Revisions;
}

const rowHeight = 52;

/**
 * FlagTable draws only the rows in view, so that thousands scroll like ten. It
 * is a table by its roles: rows that are placed one by one cannot be a <table>.
 */
export function FlagTable({ rows, environments, chosen, revisions }: Properties) {
	const body = useRef<HTMLDivElement>(null);
	const [top, setTop] = useState(0);
	useLayoutEffect(() => setTop(body.current?.offsetTop ?? 0), []);
	const virtualizer = useWindowVirtualizer({
		count: rows.length,
		estimateSize: () => rowHeight,
		getItemKey: (index) => rows[index]?.key ?? index,
		overscan: 12,
		scrollMargin: top,
	});

	useRowSteps(body, rows.length, (index) => virtualizer.scrollToIndex(index));

	return (
		<div
			role="table"
			aria-label="Flags"
			aria-rowcount={rows.length + 1}
			className={css.table}
			style={{ "--columns": environments.length } as CSSProperties}
		>
			<div role="rowgroup">
				<div role="row" aria-rowindex={1} className={css.heads}>
					<span role="columnheader">Flag</span>
					<span role="columnheader" className={css.wide}>
						Kind
					</span>
					<span role="columnheader" className={css.wide}>
						Project
					</span>
					<span role="columnheader" className={css.wide}>
						Tags
					</span>
					{environments.map(({ name, protected: guarded, revision }) => (
						<span
							role="columnheader"
							key={name}
							className={css.environment}
							data-guarded={guarded || undefined}
						>
							<EnvironmentName name={name} guarded={guarded} />
							<span className={css.revision}>revision {`${revision}`}</span>
						</span>
					))}
				</div>
			</div>
			<div role="rowgroup" ref={body} className={css.body} style={{ height: virtualizer.getTotalSize() }}>
				{virtualizer.getVirtualItems().map(({ key, index, start }) => {
					const row = rows[index];
					return (
						row && (
							<FlagRow
								key={key}
								ref={virtualizer.measureElement}
								index={index}
								offset={start - top}
								row={row}
								environments={environments}
								chosen={chosen}
								revisions={revisions}
							/>
						)
					);
				})}
			</div>
		</div>
	);
}
