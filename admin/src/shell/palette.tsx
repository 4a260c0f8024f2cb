import { createSpotlight, Spotlight, type SpotlightActionData } from "@mantine/spotlight";
import { useNavigate, useRouterState } from "@tanstack/react-router";
import { useEffect, useMemo } from "react";
import { descriptionOf } from "../flag/description.ts";
import { useFlags } from "../flags/flags.ts";
import { rowsOf } from "../flags/query.ts";
import { Icon } from "../theme/icon.tsx";

const [store, palette] = createSpotlight();

/** limit on what is listed at a time; typing narrows it down. */
const limit = 12;

/** Palette goes to any flag or page from the keyboard. It is open while it is there. */
export function Palette({ onClose }: { onClose: () => void }) {
	const { data } = useFlags();
	const navigate = useNavigate();
	const env = useRouterState({ select: ({ location }) => (location.search as { env?: string }).env });
	useEffect(() => palette.open(), []);
	const actions = useMemo((): SpotlightActionData[] => {
		const pages: SpotlightActionData[] = [
			{
				id: "page flags",
				label: "Flags",
				description: "page",
				onClick: () => void navigate({ to: "/flags" }),
			},
			{
				id: "page audit",
				label: "Audit",
				description: "page",
				onClick: () => void navigate({ to: "/audit" }),
			},
		];
		const flags = rowsOf(data?.flags ?? []).map(
			({ key, flag }): SpotlightActionData => ({
				id: key,
				label: key,
				description: flag.archived ? "archived" : descriptionOf(flag),
				onClick: () => void navigate({ to: "/flags/$key", params: { key }, search: { env } }),
			}),
		);
		return [...pages, ...flags];
	}, [data, env, navigate]);

	return (
		<Spotlight
			store={store}
			actions={actions}
			limit={limit}
			shortcut={null}
			nothingFound="No flag or page of that name"
			searchProps={{
				leftSection: <Icon name="search" />,
				placeholder: "Find a flag or a page",
				"aria-label": "Find a flag or a page",
			}}
			onSpotlightClose={onClose}
			highlightQuery
			scrollable
			maxHeight={420}
			// What scrolls can be scrolled by keyboard too.
			scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}
		/>
	);
}
