import { NativeSelect } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { getRouteApi } from "@tanstack/react-router";
import type { Environment } from "../gen/guidon/v1/environment_pb.ts";
import { SearchBox } from "../shell/search-box.tsx";
import css from "./audit.module.css";

const route = getRouteApi("/signed-in/audit");

/** Filters narrows the log down; the address holds what is chosen. */
export function Filters({ environments }: { environments: Environment[] }) {
	const { env = "", flag = "", actor = "" } = route.useSearch();
	const navigate = route.useNavigate();
	const set = (change: { env?: string | undefined; flag?: string | undefined; actor?: string | undefined }) =>
		void navigate({ search: (search) => ({ ...search, ...change, entry: undefined }), replace: true });
	const setSoon = useDebouncedCallback(set, 250);
	return (
		<div className={css.filters} role="search" aria-label="Filter the log">
			<NativeSelect
				aria-label="Environment"
				value={env}
				onChange={(event) => set({ env: event.currentTarget.value || undefined })}
				data={[{ value: "", label: "All environments" }, ...environments.map(({ name }) => name)]}
			/>
			<SearchBox
				main
				className={css.filter}
				aria-label="Flag key"
				placeholder="Flag key"
				value={flag}
				onChange={(next) => setSoon({ flag: next.trim() || undefined })}
			/>
			<SearchBox
				className={css.filter}
				aria-label="Actor"
				placeholder="Actor"
				value={actor}
				onChange={(next) => setSoon({ actor: next.trim() || undefined })}
			/>
		</div>
	);
}
