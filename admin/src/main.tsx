import { Code, ConnectError } from "@connectrpc/connect";
import { MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryCache, QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import "./theme/mantine.css";
import "./theme/tokens.css";
import { router } from "./router.tsx";
import { isAway } from "./session/fault.ts";
import { apiKey, forgetKey } from "./session/key.ts";
import { theme, variables } from "./theme/theme.ts";

const client = new QueryClient({
	queryCache: new QueryCache({ onError: leaveIfRefused }),
	defaultOptions: {
		// The server may be on this very machine: only it says whether it is away.
		queries: {
			networkMode: "always",
			retry: (failures, error) => isAway(error) && failures < 3,
			retryDelay: 1_000,
		},
		mutations: { networkMode: "always" },
	},
});

/** leaveIfRefused goes to sign-in once the key is no longer accepted. */
function leaveIfRefused(error: unknown): void {
	if (ConnectError.from(error).code !== Code.Unauthenticated || apiKey() === null) return;
	forgetKey();
	const next = router.state.location.href;
	void router.navigate({ to: "/sign-in", search: { next, expired: "true" } });
}

const root = document.getElementById("root");
if (root === null) throw new Error("index.html has no element with the id root");

createRoot(root).render(
	<StrictMode>
		<MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto">
			<QueryClientProvider client={client}>
				<RouterProvider router={router} />
				<Notifications position="bottom-right" limit={3} />
			</QueryClientProvider>
		</MantineProvider>
	</StrictMode>,
);
