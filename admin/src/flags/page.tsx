import { getRouteApi } from "@tanstack/react-router";
import { useDeferredValue, useMemo } from "react";
import { Band } from "../environment/band.tsx";
import { useEnvironments } from "../environment/environments.ts";
import { Picker } from "../environment/picker.tsx";
import { faultOf } from "../session/fault.ts";
import { FaultNote } from "../session/fault-note.tsx";
import { SearchBox } from "../shell/search-box.tsx";
import { useTitle } from "../shell/title.ts";
import { NoFlags, NoMatch } from "./empty.tsx";
import css from "./flags.module.css";
import { useFlags } from "./flags.ts";
import { matches, parseQuery, rowsOf } from "./query.ts";
import { FlagTable } from "./table.tsx";

const route = getRouteApi("/signed-in/flags");

/** FlagsPage lists every flag with its state in each environment. */
export function FlagsPage() {
	useTitle("Flags");
	const { q = "", env } = route.useSearch();
	const navigate = route.useNavigate();
	const { environments } = useEnvironments();
	const { data, error, isFetching } = useFlags();
	const rows = useMemo(() => rowsOf(data?.flags ?? []), [data]);
	const text = useDeferredValue(q);
	const found = useMemo(() => {
		const query = parseQuery(text);
		return rows.filter((row) => matches(row, query, env));
	}, [rows, text, env]);
	const chosen = environments.find(({ name }) => name === env);
	const setQuery = (next: string) =>
		void navigate({ search: (search) => ({ ...search, q: next || undefined }), replace: true });

	return (
		<>
			{chosen?.protected && <Band name={chosen.name} />}
			<div className={css.page}>
				<div className={css.head}>
					<h1 className={css.title}>Flags</h1>
					{data && (
						<span className={css.count} role="status">
							{found.length === rows.length ? rows.length : `${found.length} of ${rows.length}`}
							{!data.complete && (isFetching ? " …" : " (the first ones only)")}
						</span>
					)}
					<Picker environments={environments} chosen={env} />
					<SearchBox
						main
						className={css.search}
						value={q}
						onChange={setQuery}
						aria-label="Search flags"
						placeholder="Search, or state:off kind:ops tag:checkout"
					/>
				</div>
				{error && <FaultNote fault={faultOf(error)} />}
				{data && rows.length === 0 && <NoFlags environments={environments} />}
				{data && rows.length > 0 && found.length === 0 && (
					<NoMatch query={text} onClear={() => setQuery("")} />
				)}
				{data && found.length > 0 && (
					<FlagTable
						rows={found}
						environments={chosen ? [chosen] : environments}
						chosen={env}
						revisions={data.revisions}
					/>
				)}
			</div>
		</>
	);
}
